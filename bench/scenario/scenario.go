// Package scenario has what is measured: each scenario drives a system from package system and returns figures. A
// scenario in which a message is lost returns an error instead.
package scenario

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/seed-4d73690b/rafthttp/bench/system"
)

// Metric names a figure of a scenario.
type Metric string

// The figures.
const (
	Rate     Metric = "messages/s"
	CPU      Metric = "CPU s per million"
	Allocs   Metric = "allocations each"
	Data     Metric = "MB/s" // of the data of entries, in millions of bytes
	Bytes    Metric = "bytes allocated per byte of data"
	Median   Metric = "p50 µs"
	Tail     Metric = "p99 µs"
	TailBulk Metric = "p99 ms"
	Bulk     Metric = "bulk MB/s"
)

// Scenario is one row of the tables.
type Scenario struct {
	ID    string
	Title string
	// Metrics it measures; the first is the one that charts show.
	Metrics []Metric
	// Entries and Size are the appends that are sent, Peers how many members receive them.
	Entries, Size, Peers int
	TLS                  bool
	run                  func(*run) (Figures, error)
}

// Figures are what a run has measured.
type Figures map[Metric]float64

// Timing says how long to measure.
type Timing struct {
	WarmUp  time.Duration
	Measure time.Duration
}

// Default is long enough for figures that repeat to a few percent on a quiet machine.
var Default = Timing{WarmUp: 500 * time.Millisecond, Measure: 1500 * time.Millisecond}

// All are the scenarios in the order of the tables.
func All() []Scenario {
	small := []Metric{Rate, CPU, Allocs}
	large := []Metric{Data, Bytes, CPU}
	const mib = 1 << 20
	return []Scenario{
		{ID: "A", Title: "MsgApp, one entry of 64 B", Metrics: small, Entries: 1, Size: 64, Peers: 1, run: throughput},
		{ID: "B", Title: "MsgApp, 64 entries of 1 KiB", Metrics: small, Entries: 64, Size: 1 << 10, Peers: 1, run: throughput},
		{ID: "C", Title: "MsgApp, one entry of 1 MiB", Metrics: large, Entries: 1, Size: mib, Peers: 1, run: throughput},
		{ID: "C'", Title: "the same, 64 B smaller", Metrics: large, Entries: 1, Size: mib - 64, Peers: 1, run: throughput},
		{ID: "D", Title: "heartbeat and answer, idle", Metrics: []Metric{Median, Tail}, Peers: 1, Entries: 1, Size: 64, run: latency},
	}
}

// Select returns the scenarios that a comma-separated list names, in the order of the tables: F stands for FA and FC.
// An empty list stands for all.
func Select(list string) ([]Scenario, error) {
	if list == "" {
		return All(), nil
	}
	wanted := strings.Split(strings.ToUpper(list), ",")
	found := make([]bool, len(wanted))
	var selected []Scenario
	for _, s := range All() {
		for i, w := range wanted {
			if s.ID == w || (len(w) == 1 && strings.HasPrefix(s.ID, w)) {
				selected = append(selected, s)
				found[i] = true
				break
			}
		}
	}
	for i, w := range wanted {
		if !found[i] {
			return nil, fmt.Errorf("there is no scenario %q", w)
		}
	}
	return selected, nil
}

// ByID returns the scenario with this id.
func ByID(id string) (Scenario, error) {
	for _, s := range All() {
		if s.ID == id {
			return s, nil
		}
	}
	return Scenario{}, fmt.Errorf("there is no scenario %q", id)
}

// Skips says that the scenario makes no sense for a system.
func (s Scenario) Skips(sys system.System) bool { return false }

// run is one run of a scenario.
type run struct {
	Scenario
	Timing
	load    *system.Load
	sink    *sink
	cluster system.Cluster
}

// Run starts a cluster of sys, measures and closes it.
func (s Scenario) Run(sys system.System, t Timing) (_ Figures, err error) {
	r := &run{Scenario: s, Timing: t, load: system.NewLoad(s.Entries, s.Size, s.Peers), sink: newSink(s.Peers)}
	cfg := system.Config{Peers: s.Peers, Load: r.load, Sink: r.sink}
	if s.TLS {
		dir, err := os.MkdirTemp("", "bench")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		if cfg.TLS, err = system.NewTLS(dir); err != nil {
			return nil, err
		}
	}
	if r.cluster, err = sys.Start(cfg); err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	figures, err := s.run(r)
	r.cluster.Close()
	if err == nil {
		err = r.sink.err() // Close looks at what was dropped
	}
	return figures, err
}

// throughput sends appends as fast as they are taken.
func throughput(r *run) (Figures, error) {
	runtime.GC()
	s := startSender(r.cluster, r.sink, r.load)
	time.Sleep(r.WarmUp)
	before, first := usageNow(), r.sink.total()
	last := first
	for last == first && len(s.done) == 0 { // again, where nothing at all came in so short a time
		time.Sleep(r.Measure)
		last = r.sink.total()
	}
	after := usageNow()
	if err := s.finish(); err != nil {
		return nil, err
	}
	used := after.since(before)
	n, seconds := float64(last-first), used.elapsed.Seconds()
	data := n * float64(r.Entries*r.Size)
	return Figures{
		Rate: n / seconds, CPU: used.cpu.Seconds() / n * 1e6, Allocs: float64(used.mallocs) / n,
		Data: data / seconds / 1e6, Bytes: float64(used.bytes) / data,
	}.only(r.Metrics), nil
}

// latency sends heartbeats one after the other while nothing else is sent.
func latency(r *run) (Figures, error) {
	if _, err := pingFor(r.cluster, r.sink, r.WarmUp); err != nil {
		return nil, err
	}
	runtime.GC()
	times, err := pingFor(r.cluster, r.sink, r.Measure)
	if err != nil {
		return nil, err
	}
	return Figures{Median: percentile(times, 0.50) * 1e6, Tail: percentile(times, 0.99) * 1e6}, nil
}

// only leaves out what is not in metrics.
func (f Figures) only(metrics []Metric) Figures {
	kept := Figures{}
	for _, m := range metrics {
		kept[m] = f[m]
	}
	return kept
}
