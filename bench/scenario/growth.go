package scenario

import (
	"fmt"
	"slices"
	"strings"
)

// Series is a scenario measured over and over while one thing grows.
type Series struct {
	ID      string
	Title   string
	Axis    string // what grows
	Base    string // id of the scenario
	Systems []string
	Metrics []Metric // that are drawn, a panel each
	Points  []Point
}

// Point is one step of a series. What is 0 is as in the scenario.
type Point struct {
	At    float64 // on the axis
	Label string
	Peers int
	Size  int // bytes of an entry
	Procs int // GOMAXPROCS
	// Without names systems that are not measured here.
	Without []string
}

// At returns the scenario with what the point changes.
func (s Scenario) At(p Point) Scenario {
	if p.Peers != 0 {
		s.Peers = p.Peers
	}
	if p.Size != 0 {
		s.Size = p.Size
	}
	return s
}

// AllSeries are those of docs/performance.md.
func AllSeries() []Series {
	three := []string{"ours", "upstream", "tcp"}
	series := []Series{
		{ID: "peers", Title: "A to more and more receivers", Axis: "receivers", Base: "H", Systems: three, Metrics: []Metric{Rate, CPU}, Points: peersPoints("upstream")},
		{ID: "idle", Title: "idle", Axis: "peers", Base: "G", Systems: []string{"ours", "upstream", "grpc"}, Metrics: []Metric{Heap, Goroutines, IdleCPU}, Points: peersPoints("upstream")},
		{ID: "size", Title: "appends of one entry", Axis: "bytes of data", Base: "C", Systems: three, Metrics: []Metric{Data, CPU, Bytes}, Points: sizePoints()},
	}
	for _, base := range []string{"A", "B", "C"} {
		sc, err := ByID(base)
		if err != nil {
			panic(err) // they are constants
		}
		series = append(series, Series{
			ID: "procs" + base, Title: base + ": " + sc.Title, Axis: "GOMAXPROCS", Base: base, Systems: three, Metrics: []Metric{sc.Metrics[0], CPU},
			Points: procsPoints(),
		})
	}
	return series
}

// SelectSeries returns the series whose ids begin with one of a comma-separated list, all for an empty one.
func SelectSeries(list string) ([]Series, error) {
	var selected []Series
	for _, s := range AllSeries() {
		if list == "" || slices.ContainsFunc(strings.Split(list, ","), func(w string) bool { return strings.HasPrefix(s.ID, w) }) {
			selected = append(selected, s)
		}
	}
	if len(selected) == 0 {
		return nil, fmt.Errorf("there is no series %q", list)
	}
	return selected, nil
}

// peersPoints leaves out at the end what has no room for it: etcd's members keep 2 MiB for each other at both ends, so
// that a thousand would want 5 GiB, and twice that before a collection.
func peersPoints(withoutAtTheEnd ...string) []Point {
	var points []Point
	for _, n := range []int{1, 10, 100, 1000} {
		points = append(points, Point{At: float64(n), Label: fmt.Sprint(n), Peers: n})
	}
	points[len(points)-1].Without = withoutAtTheEnd
	return points
}

func sizePoints() []Point {
	var points []Point
	for size := 64; size <= 16<<20; size *= 4 {
		points = append(points, Point{At: float64(size), Label: byteCount(size), Size: size})
	}
	return points
}

func procsPoints() []Point {
	var points []Point
	for _, n := range []int{1, 2, 4, 8} {
		points = append(points, Point{At: float64(n), Label: fmt.Sprint(n), Procs: n})
	}
	return points
}

func byteCount(n int) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10:
		return fmt.Sprintf("%d KiB", n>>10)
	default:
		return fmt.Sprintf("%d B", n)
	}
}
