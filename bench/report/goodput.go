package report

import (
	"io"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"

	"github.com/seed-4d73690b/rafthttp/bench/scenario"
	"github.com/seed-4d73690b/rafthttp/bench/system"
)

const goodputColumns = 2

// followed leaves only scenarios in which what a follower gets was looked at over time.
func followed(scenarios []scenario.Scenario) []scenario.Scenario {
	return slices.DeleteFunc(slices.Clone(scenarios), func(s scenario.Scenario) bool { return !slices.Contains(s.Metrics, scenario.Share) })
}

// GoodputChart writes a PNG with a panel for each of some scenarios: what the follower gets, in the course of time. A curve
// is the median of the runs of a system.
func GoodputChart(w io.Writer, samples []Sample, scenarios []scenario.Scenario, systems []system.System) error {
	rows := (len(scenarios) + goodputColumns - 1) / goodputColumns
	plots := make([][]*plot.Plot, rows)
	for i := range plots {
		plots[i] = make([]*plot.Plot, goodputColumns)
	}
	for i, sc := range scenarios {
		p, err := goodputPanel(samples, sc, systems)
		if err != nil {
			return err
		}
		plots[i/goodputColumns][i%goodputColumns] = p
	}
	return writePNG(w, plots, curveWidth, curveHeight)
}

func goodputPanel(samples []Sample, sc scenario.Scenario, systems []system.System) (*plot.Plot, error) {
	p := newPlot(sc.ID + "  " + sc.Title)
	p.X.Label.Text, p.Y.Label.Text = "seconds", string(scenario.Goodput)
	p.Legend.TextStyle.Font = sansFont(labelSize)
	p.Legend.ThumbnailWidth = 14
	highest := 1.0
	for _, sys := range slices.Backward(systems) { // ours is drawn last, above the others
		points := goodputOf(samples, sc.ID, sys.Name)
		if len(points) == 0 {
			continue
		}
		line, err := plotter.NewLine(points)
		if err != nil {
			return nil, err
		}
		line.Color, line.Width = chartColor(sys.Name), 1.4
		if sys.Name != Ours {
			line.Dashes = []vg.Length{4, 2}
		}
		p.Add(line)
		p.Legend.Add(sys.Title, line)
		for _, xy := range points {
			highest = max(highest, xy.Y)
		}
	}
	p.X.Min, p.Y.Min, p.Y.Max = 0, 0, highest*1.5 // room for the legend
	p.Legend.Top = true
	return p, nil
}

// goodputOf is the median of the runs in each interval that all of them have.
func goodputOf(samples []Sample, scenarioID, sys string) plotter.XYs {
	var runs [][]float64
	for _, s := range samples {
		if s.Scenario == scenarioID && s.System == sys && len(s.Goodput) > 0 {
			runs = append(runs, s.Goodput)
		}
	}
	if len(runs) == 0 {
		return nil
	}
	n := len(slices.MinFunc(runs, func(a, b []float64) int { return len(a) - len(b) }))
	points := make(plotter.XYs, n)
	for i := range points {
		at := make([]float64, len(runs))
		for j, run := range runs {
			at[j] = run[i]
		}
		slices.Sort(at)
		points[i] = plotter.XY{X: (float64(i) + 0.5) * scenario.Interval, Y: median(at)}
	}
	return points
}
