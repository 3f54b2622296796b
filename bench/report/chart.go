package report

import (
	"fmt"
	"image/color"
	"io"
	"math"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"

	"github.com/seed-4d73690b/rafthttp/bench/scenario"
	"github.com/seed-4d73690b/rafthttp/bench/system"
)

const (
	chartDPI     = 144
	chartColumns = 3
	panelWidth   = 3.5 * vg.Inch
	panelHeight  = 1.9 * vg.Inch
	barWidth     = 11
	titleSize    = 9
	labelSize    = 8
)

// chartColors has a color for each system; others are gray.
var chartColors = map[string]color.Color{
	Ours: color.RGBA{0x0b, 0x6e, 0x99, 0xff}, Upstream: color.RGBA{0xd9, 0x82, 0x2b, 0xff},
	"ours-32MiB": color.RGBA{0x6f, 0xb7, 0xd1, 0xff}, "grpc": color.RGBA{0x8d, 0x6c, 0xab, 0xff}, "hashicorp": color.RGBA{0x5b, 0x9a, 0x5b, 0xff},
}

func chartColor(system string) color.Color {
	if c, ok := chartColors[system]; ok {
		return c
	}
	return color.Gray{0xa8}
}

// Chart writes a PNG with a panel for each scenario: a bar a system for its first metric, with the range of the runs.
func Chart(w io.Writer, r Results, scenarios []scenario.Scenario, systems []system.System) error {
	rows := (len(scenarios) + chartColumns - 1) / chartColumns
	plots := make([][]*plot.Plot, rows)
	for i := range plots {
		plots[i] = make([]*plot.Plot, chartColumns)
	}
	for i, sc := range scenarios {
		measured := slices.DeleteFunc(slices.Clone(systems), sc.Skips)
		p, err := panel(r, sc, sc.ID+"  "+sc.Title, measured)
		if err != nil {
			return err
		}
		plots[i/chartColumns][i%chartColumns] = p
	}
	return writePNG(w, plots, panelWidth, panelHeight)
}

// summary are the scenarios of the README's chart, with titles for readers who have not seen the others.
var summary = []struct{ id, title string }{
	{"A", "appends of one entry of 64 B"}, {"E", "heartbeat beside appends of 1 MiB"}, {"G", "memory of an idle peer"},
}

// SummaryChart writes a PNG with a panel for each of the three scenarios of the README. ok says whether all of them were run.
func SummaryChart(w io.Writer, r Results, scenarios []scenario.Scenario, systems []system.System) (ok bool, err error) {
	row := make([]*plot.Plot, 0, len(summary))
	for _, one := range summary {
		i := slices.IndexFunc(scenarios, func(sc scenario.Scenario) bool { return sc.ID == one.id })
		if i < 0 {
			return false, nil
		}
		p, err := panel(r, scenarios[i], one.title, slices.DeleteFunc(slices.Clone(systems), scenarios[i].Skips))
		if err != nil {
			return false, err
		}
		row = append(row, p)
	}
	return true, writePNG(w, [][]*plot.Plot{row}, panelWidth, panelHeight)
}

func writePNG(w io.Writer, plots [][]*plot.Plot, width, height vg.Length) error {
	rows, columns := len(plots), len(plots[0])
	img := vgimg.NewWith(vgimg.UseWH(width*vg.Length(columns), height*vg.Length(rows)), vgimg.UseDPI(chartDPI), vgimg.UseBackgroundColor(color.White))
	const pad = 6
	tiles := draw.Tiles{Rows: rows, Cols: columns, PadX: pad, PadY: pad, PadTop: pad, PadBottom: pad, PadLeft: pad, PadRight: pad}
	canvases := plot.Align(plots, tiles, draw.New(img))
	for i, line := range plots {
		for j, p := range line {
			if p != nil {
				p.Draw(canvases[i][j])
			}
		}
	}
	_, err := vgimg.PngCanvas{Canvas: img}.WriteTo(w)
	return err
}

func newPlot(title string) *plot.Plot {
	p := plot.New()
	p.Title.Text = title
	p.Title.TextStyle.Font = sansFont(titleSize)
	p.Title.Padding = 3
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.Tick.Label.Font = sansFont(labelSize)
		axis.Label.TextStyle.Font = sansFont(labelSize)
		axis.LineStyle.Width = 0.4
		axis.Tick.LineStyle.Width = 0.4
	}
	return p
}

func sansFont(size vg.Length) font.Font {
	return font.Font{Typeface: "Liberation", Variant: "Sans", Size: size}
}

// panel is one scenario. Bare TCP may be so far ahead that it would dwarf what is compared: its bar is cut then, and
// its label says how long it would be.
func panel(r Results, sc scenario.Scenario, title string, systems []system.System) (*plot.Plot, error) {
	metric := sc.Metrics[0]
	title = fmt.Sprintf("%s\n%s", title, metric)
	if metric.LessIsBetter() {
		title += ", less is better"
	}
	p := newPlot(title)
	p.HideX()
	p.Y.LineStyle.Width, p.Y.Tick.LineStyle.Width, p.Y.Tick.Length = 0, 0, 0
	longest := longestBar(r, sc, systems)
	var names []string
	var labels plotter.XYLabels
	for i, s := range systems {
		names = append(names, s.Title)
		at := float64(len(systems) - 1 - i)
		v, ok := r.Value(sc.ID, s.Name, metric)
		if !ok {
			labels.XYs, labels.Labels = append(labels.XYs, plotter.XY{X: 0, Y: at}), append(labels.Labels, "–")
			continue
		}
		length, end, label := v.Median, math.Min(v.Max, 1.1*longest), Format(v.Median)
		if length > longest {
			length, end, label = longest, longest, label+" →"
		}
		bar, err := plotter.NewBarChart(plotter.Values{length}, barWidth)
		if err != nil {
			return nil, err
		}
		bar.Horizontal, bar.XMin, bar.Color, bar.LineStyle.Width = true, at, chartColor(s.Name), 0
		p.Add(bar)
		if end > length {
			spread, err := plotter.NewXErrorBars(errorBar{length, at, length - v.Min, end - length})
			if err != nil {
				return nil, err
			}
			spread.LineStyle.Width, spread.CapWidth = 0.6, 3
			p.Add(spread)
		}
		labels.XYs, labels.Labels = append(labels.XYs, plotter.XY{X: end, Y: at}), append(labels.Labels, " "+label)
	}
	l, err := plotter.NewLabels(labels)
	if err != nil {
		return nil, err
	}
	for i := range l.TextStyle {
		l.TextStyle[i].Font = sansFont(labelSize)
		l.TextStyle[i].YAlign = text.YCenter
	}
	p.Add(l)
	p.X.Min, p.X.Max = 0, longest*1.35
	p.Y.Min, p.Y.Max = -0.6, float64(len(systems))-0.4
	p.Y.Tick.Marker = nameTicks(names)
	return p, nil
}

// longestBar is the longest that is drawn: that of the systems that compare, and bare TCP's up to half as much again.
func longestBar(r Results, sc scenario.Scenario, systems []system.System) float64 {
	var others, bare float64
	for _, s := range systems {
		v, _ := r.Value(sc.ID, s.Name, sc.Metrics[0])
		if s.Name == Bare {
			bare = v.Median
		} else {
			others = max(others, v.Median)
		}
	}
	if others == 0 {
		return max(bare, math.SmallestNonzeroFloat64)
	}
	return max(others, min(bare, 1.5*others))
}

// errorBar is the range of one bar: x, y, and how far to the left and to the right.
type errorBar [4]float64

func (e errorBar) Len() int                       { return 1 }
func (e errorBar) XY(int) (x, y float64)          { return e[0], e[1] }
func (e errorBar) XError(int) (low, high float64) { return e[2], e[3] }

// nameTicks puts names at the bars, from top to bottom.
type nameTicks []string

func (n nameTicks) Ticks(_, _ float64) []plot.Tick {
	ticks := make([]plot.Tick, len(n))
	for i, name := range n {
		ticks[i] = plot.Tick{Value: float64(len(n) - 1 - i), Label: name}
	}
	return ticks
}
