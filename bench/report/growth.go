package report

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/seed-4d73690b/rafthttp/bench/scenario"
	"github.com/seed-4d73690b/rafthttp/bench/system"
)

const (
	curveWidth  = 4 * vg.Inch
	curveHeight = 2.6 * vg.Inch
)

// SaveGrowth writes growth.md, growth.json and a chart for each series, growth-<id>.png, to dir.
func SaveGrowth(dir string, env Environment, samples []Sample, all []scenario.Series) error {
	r := Summarize(samples)
	files := map[string][]byte{}
	var md bytes.Buffer
	fmt.Fprintf(&md, "# Growth\n\n%s\nMedians. [How it is measured](../README.md), and [what it means](../../docs/performance.md).\n", env)
	for _, s := range all {
		var chart bytes.Buffer
		if err := Curves(&chart, r, s); err != nil {
			return err
		}
		name := "growth-" + s.ID + ".png"
		files[name] = chart.Bytes()
		fmt.Fprintf(&md, "\n## %s\n\n![%s for each number of %s](%s)\n\n", s.Title, s.Metrics[0], s.Axis, name)
		GrowthTable(&md, r, s)
	}
	files["growth.md"] = md.Bytes()
	return saveAll(dir, files, "growth.json", env, samples)
}

// GrowthTable writes a series as a Markdown table: a row for each metric and system, a column for each point.
func GrowthTable(w io.Writer, r Results, s scenario.Series) {
	head, line := []string{"", s.Axis}, []string{"---", "---"}
	for _, p := range s.Points {
		head, line = append(head, p.Label), append(line, "--:")
	}
	row(w, head)
	row(w, line)
	for _, m := range s.Metrics {
		name := string(m)
		for _, sys := range s.Systems {
			cells := []string{name, titleOf(sys)}
			for _, p := range s.Points {
				v, ok := r.At(s.ID, sys, m, p.At)
				if !ok {
					v.Median = math.NaN()
				}
				cells = append(cells, Format(v.Median))
			}
			row(w, cells)
			name = ""
		}
	}
}

func titleOf(name string) string {
	s, err := system.ByName(name)
	if err != nil {
		return name
	}
	return s.Title
}

// Curves writes a PNG with a panel for each metric of a series, and in it a curve for each system, with the range of
// the runs. Both axes are logarithmic.
func Curves(w io.Writer, r Results, s scenario.Series) error {
	var plots []*plot.Plot
	for _, m := range s.Metrics {
		p, err := curvePanel(r, s, m)
		if err != nil {
			return err
		}
		plots = append(plots, p)
	}
	return writePNG(w, [][]*plot.Plot{plots}, curveWidth, curveHeight)
}

func curvePanel(r Results, s scenario.Series, m scenario.Metric) (*plot.Plot, error) {
	p := newPlot(s.Title + ": " + string(m))
	p.X.Label.Text = s.Axis
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	p.X.Tick.Marker, p.Y.Tick.Marker = pointTicks(s.Points), decadeTicks{}
	p.Legend.TextStyle.Font = sansFont(labelSize)
	p.Legend.ThumbnailWidth = 14
	low, high := math.Inf(1), math.Inf(-1)
	for _, sys := range s.Systems {
		c := curveOf(r, s, sys, m)
		if len(c.XYs) == 0 {
			continue
		}
		line, points, err := plotter.NewLinePoints(c.XYs)
		if err != nil {
			return nil, err
		}
		spread, err := plotter.NewYErrorBars(c)
		if err != nil {
			return nil, err
		}
		line.Color, points.Color, spread.Color = chartColor(sys), chartColor(sys), chartColor(sys)
		line.Width, points.Radius, points.Shape = 1.4, 2, draw.CircleGlyph{}
		spread.LineStyle.Width, spread.CapWidth = 0.6, 3
		p.Add(line, points, spread)
		p.Legend.Add(titleOf(sys), line)
		for i, xy := range c.XYs {
			low, high = min(low, xy.Y-c.YErrors[i].Low), max(high, xy.Y+c.YErrors[i].High)
		}
	}
	if low > high {
		low, high = 1, 10
	}
	first, last := s.Points[0].At, s.Points[len(s.Points)-1].At
	p.X.Min, p.X.Max = first*0.8, last*1.25
	p.Y.Min, p.Y.Max = low*0.7, high*math.Pow(high/low, 0.3)*1.3 // room for the legend
	p.Legend.Top = true
	return p, nil
}

// curve is the line of one system.
type curve struct {
	plotter.XYs
	plotter.YErrors
}

// least is the lowest that is drawn: a logarithmic axis has no place for nothing.
const least = 1e-2

func curveOf(r Results, s scenario.Series, sys string, m scenario.Metric) curve {
	var c curve
	for _, p := range s.Points {
		v, ok := r.At(s.ID, sys, m, p.At)
		if !ok || v.Median < least {
			continue
		}
		c.XYs = append(c.XYs, plotter.XY{X: p.At, Y: v.Median})
		c.YErrors = append(c.YErrors, struct{ Low, High float64 }{v.Median - max(v.Min, least), v.Max - v.Median})
	}
	return c
}

// pointTicks are the steps of a series.
type pointTicks []scenario.Point

// Ticks implements plot.Ticker.
func (t pointTicks) Ticks(_, _ float64) []plot.Tick {
	every := (len(t) + 4) / 5 // labels that do not overlap
	ticks := make([]plot.Tick, len(t))
	for i, p := range t {
		ticks[i].Value = p.At
		if i%every == 0 || len(t) <= 5 {
			ticks[i].Label = p.Label
		}
	}
	return ticks
}

// decadeTicks are powers of ten, and 2 and 5 times those where there are few.
type decadeTicks struct{}

// Ticks implements plot.Ticker.
func (decadeTicks) Ticks(low, high float64) []plot.Tick {
	steps := []float64{1}
	if high/low < 300 {
		steps = []float64{1, 2, 5}
	}
	var ticks []plot.Tick
	for decade := math.Pow(10, math.Floor(math.Log10(low))); decade <= high; decade *= 10 {
		for _, s := range steps {
			if v := s * decade; v >= low && v <= high {
				ticks = append(ticks, plot.Tick{Value: v, Label: tickLabel(v)})
			}
		}
	}
	return ticks
}

func tickLabel(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.3g M", v/1e6)
	case v >= 1e4:
		return fmt.Sprintf("%.3g k", v/1e3)
	default:
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
}
