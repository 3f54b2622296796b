// Package report turns samples into medians, ratios, tables and charts.
package report

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/seed-4d73690b/rafthttp/bench/scenario"
)

// Sample is one run.
type Sample struct {
	Scenario string           `json:"scenario"`
	System   string           `json:"system"`
	Round    int              `json:"round"`
	At       float64          `json:"at,omitempty"` // where on its axis, if it is of a series
	Figures  scenario.Figures `json:"figures"`
	Goodput  []float64        `json:"goodput,omitempty"` // of a follower, in MB/s, for each scenario.Interval
}

// Value is what several runs say of one metric.
type Value struct{ Median, Min, Max float64 }

// Results has the values of all runs.
type Results struct{ values map[key]Value }

type key struct {
	scenario, system string
	metric           scenario.Metric
	at               float64
}

// Summarize takes the medians.
func Summarize(samples []Sample) Results {
	all := map[key][]float64{}
	for _, s := range samples {
		for m, v := range s.Figures {
			k := key{s.Scenario, s.System, m, s.At}
			all[k] = append(all[k], v)
		}
	}
	r := Results{values: map[key]Value{}}
	for k, v := range all {
		slices.Sort(v)
		r.values[k] = Value{Median: median(v), Min: v[0], Max: v[len(v)-1]}
	}
	return r
}

// median of sorted values.
func median(v []float64) float64 {
	middle := len(v) / 2
	if len(v)%2 == 1 {
		return v[middle]
	}
	return (v[middle-1] + v[middle]) / 2
}

// Value returns what was measured, and whether it was.
func (r Results) Value(scenarioID, system string, m scenario.Metric) (Value, bool) {
	return r.At(scenarioID, system, m, 0)
}

// At returns what was measured at a point of a series, and whether it was.
func (r Results) At(seriesID, system string, m scenario.Metric, at float64) (Value, bool) {
	v, ok := r.values[key{seriesID, system, m, at}]
	return v, ok
}

// Ratio of the medians of two systems, and whether both were measured. Nothing against nothing is 1; against nothing
// there is no ratio otherwise.
func (r Results) Ratio(scenarioID, system, to string, m scenario.Metric) (float64, bool) {
	a, okA := r.Value(scenarioID, system, m)
	b, okB := r.Value(scenarioID, to, m)
	if a.Median == b.Median {
		return 1, okA && okB
	}
	return a.Median / b.Median, okA && okB && Format(b.Median) != "0"
}

// Line is figures on one line.
func Line(metrics []scenario.Metric, f scenario.Figures) string {
	var parts []string
	for _, m := range metrics {
		parts = append(parts, fmt.Sprintf("%s %s", Format(f[m]), m))
	}
	return strings.Join(parts, ", ")
}

// Format writes a figure with about three digits.
func Format(v float64) string {
	switch abs := math.Abs(v); {
	case math.IsInf(v, 0), math.IsNaN(v):
		return "–"
	case abs >= 999.5e3:
		return fmt.Sprintf("%.*f M", digits(v/1e6), v/1e6)
	case abs >= 10e3:
		return fmt.Sprintf("%.*f k", digits(v/1e3), v/1e3)
	case abs < 0.005:
		return "0"
	default:
		return fmt.Sprintf("%.*f", digits(v), v)
	}
}

// digits after the point that make three in all.
func digits(v float64) int {
	switch abs := math.Abs(v); {
	case abs >= 99.95:
		return 0
	case abs >= 9.995:
		return 1
	default:
		return 2
	}
}
