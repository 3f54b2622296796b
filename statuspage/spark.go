package statuspage

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// Sizes of the small charts, in their own units.
const (
	sparkWidth  = 120.0
	sparkHeight = 24.0
)

// spark is a small chart of the rates of the last minutes, with one or two lines.
type spark struct {
	A, B  []string // points of each unbroken part of a line; none if there are too few
	Max   string   // the rate at the top of the chart
	Title string
}

// newSpark draws messages of a lane, or bytes of a peer in both directions.
func newSpark(all []point, both bool) spark {
	var s spark
	if len(all) < 2 {
		return s
	}
	peak := 0.0
	for _, p := range all {
		peak = math.Max(peak, p.a)
		if both {
			peak = math.Max(peak, p.b)
		}
	}
	// A short history fills at least a quarter.
	shown := max(window/4, all[0].age)
	line := func(of func(point) float64) []string {
		var parts [][]string
		for _, p := range all {
			if p.first || len(parts) == 0 {
				parts = append(parts, nil)
			}
			x := round(sparkWidth * (1 - p.age.Seconds()/shown.Seconds()))
			last := &parts[len(parts)-1]
			*last = append(*last, fmt.Sprintf("%g,%g", x, sparkY(of(p), peak)))
		}
		var lines []string
		for _, part := range parts {
			if len(part) == 1 { // a dot
				part = append(part, part[0])
			}
			lines = append(lines, strings.Join(part, " "))
		}
		return lines
	}
	s.A, s.Max = line(func(p point) float64 { return p.a }), messageRate(&peak)
	if both {
		s.B, s.Max = line(func(p point) float64 { return p.b }), byteRate(&peak)
	}
	s.Title = fmt.Sprintf("last %s, maximum %s", duration(shown.Round(time.Second)), s.Max)
	return s
}

func sparkY(v, peak float64) float64 {
	if peak == 0 {
		return sparkHeight - 1.5
	}
	return round(1.5 + (sparkHeight-3)*(1-v/peak))
}
