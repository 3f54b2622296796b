// Package scenario has what is measured: each scenario drives a system from package system and returns figures. A
// scenario in which a message is lost returns an error instead.
package scenario

import (
	"fmt"
	"strings"
	"time"

	"github.com/seed-4d73690b/rafthttp/bench/system"
)

// Metric names a figure of a scenario.
type Metric string

// Disk and Memory are the names of folders in Settings.
const (
	Disk   = "disk"
	Memory = "memory"
)

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

	// Of each end of a connection between two members.
	Goroutines Metric = "goroutines a peer"
	Heap       Metric = "heap KiB a peer"
	IdleCPU    Metric = "CPU % of a core"

	FileRate Metric = "database MB/s"
	FileCPU  Metric = "CPU s"
	Peak     Metric = "peak memory growth MiB"
	Calls    Metric = "read and write calls"

	// Of a heartbeat beside a snapshot, and how many times that of an idle connection its p99 is.
	Slowdown Metric = "× its idle p99"
)

// LessIsBetter says so; for others more is.
func (m Metric) LessIsBetter() bool { return m != Rate && m != Data && m != Bulk && m != FileRate }

// Scenario is one row of the tables.
type Scenario struct {
	ID    string
	Title string
	// Metrics it measures; the first is the one that charts show.
	Metrics []Metric
	// Entries and Size are the appends that are sent, Peers how many members receive them.
	Entries, Size, Peers int
	// Window is how many may be under way to a peer; 0 means system.Window.
	Window int
	TLS    bool
	Folder string // of Settings.Folders, where databases are sent from and saved to
	// Checksum says that ours verifies databases by one; the others have none.
	Checksum bool
	run      func(*run) (Figures, error)
}

// Figures are what a run has measured.
type Figures map[Metric]float64

// Settings say how long to measure, and where files go.
type Settings struct {
	WarmUp  time.Duration
	Measure time.Duration
	Settle  time.Duration // after the last message, before an idle system is measured
	Idle    time.Duration // how long it is

	// Folders are where the databases of snapshots are, by the names Disk and Memory. They must exist; what is written
	// to them is theirs to remove.
	Folders map[string]string
	// DatabaseBytes is how large one is.
	DatabaseBytes int64
	// Heap is how many bytes a process holds besides what is measured, without pointers.
	Heap int
}

// Default is long enough for figures that repeat to a few percent on a quiet machine.
var Default = Settings{
	WarmUp: 500 * time.Millisecond, Measure: 1500 * time.Millisecond,
	Settle: 5 * time.Second, Idle: 5 * time.Second,
	DatabaseBytes: 1 << 30, Heap: 64 << 20,
}

// All are the scenarios in the order of the tables.
func All() []Scenario {
	small := []Metric{Rate, CPU, Allocs}
	large := []Metric{Data, Bytes, CPU}
	const mib = 1 << 20
	all := []Scenario{
		{ID: "A", Title: "MsgApp, one entry of 64 B", Metrics: small, Entries: 1, Size: 64, Peers: 1, run: throughput},
		{ID: "B", Title: "MsgApp, 64 entries of 1 KiB", Metrics: small, Entries: 64, Size: 1 << 10, Peers: 1, run: throughput},
		{ID: "C", Title: "MsgApp, one entry of 1 MiB", Metrics: large, Entries: 1, Size: mib, Peers: 1, run: throughput},
		{ID: "C'", Title: "the same, 64 B smaller", Metrics: large, Entries: 1, Size: mib - 64, Peers: 1, run: throughput},
		{ID: "D", Title: "heartbeat and answer, idle", Metrics: []Metric{Median, Tail}, Peers: 1, Entries: 1, Size: 64, run: latency},
		{ID: "E", Title: "heartbeat beside appends of 1 MiB", Metrics: []Metric{TailBulk, Bulk}, Entries: 1, Size: mib, Peers: 1, run: latencyBesideBulk},
		{ID: "FA", Title: "A over mutual TLS 1.3", Metrics: small, Entries: 1, Size: 64, Peers: 1, TLS: true, run: throughput},
		{ID: "FC", Title: "C over mutual TLS 1.3", Metrics: large, Entries: 1, Size: mib, Peers: 1, TLS: true, run: throughput},
		{ID: "G", Title: "idle, 100 peers", Metrics: []Metric{Heap, Goroutines, IdleCPU}, Entries: 1, Size: 64, Peers: 100, Window: 64, run: idle},
		{ID: "H", Title: "A to 6 receivers", Metrics: small, Entries: 1, Size: 64, Peers: 6, run: throughput},
		{ID: "SD", Title: "snapshot, on disk", Folder: Disk},
		{ID: "SM", Title: "snapshot, in memory", Folder: Memory},
		{ID: "SDC", Title: "SD with a checksum", Folder: Disk, Checksum: true},
		{ID: "SMC", Title: "SM with a checksum", Folder: Memory, Checksum: true},
		{ID: "SH", Title: "heartbeat beside SM", Folder: Memory, Metrics: []Metric{TailBulk, Slowdown, FileRate}, run: latencyBesideSnapshot},
	}
	for i := range all {
		s := &all[i]
		if s.Folder == "" {
			continue
		}
		s.Entries, s.Size, s.Peers, s.Window = 1, 64, 1, 1
		if s.run == nil {
			s.Metrics, s.run = []Metric{FileRate, FileCPU, Peak, Calls}, snapshot
		}
	}
	return all
}

// Select returns the scenarios that a comma-separated list names, in the order of the tables: F stands for FA and FC,
// S for all that begin with it. An empty list stands for all.
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
func (s Scenario) Skips(sys system.System) bool {
	return sys.NoIdle && s.ID == "G" || !sys.Snapshots && s.Folder != ""
}
