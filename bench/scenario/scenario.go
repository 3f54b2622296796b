// Package scenario has what is measured: each scenario drives a system from package system and returns figures. A
// scenario in which a message is lost returns an error instead.
package scenario

import (
	"fmt"
	"slices"
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

	// Of a follower in a group, and of what the group does. What a follower can take is what its line or its application can.
	Goodput  Metric = "MB/s to the follower"
	Share    Metric = "of what it can take"
	First    Metric = "ms to the first entry"
	Waste    Metric = "received ÷ needed"
	Drops    Metric = "messages dropped"
	Reports  Metric = "unreachable reports"
	Commits  Metric = "committed MB/s"
	CPUPerGB Metric = "CPU s per GB"

	// Of rounds: an append to each of two followers, and their answers.
	RoundCPU    Metric = "CPU µs a round"
	RoundAllocs Metric = "allocations a round"
	Rounds      Metric = "rounds/s"

	// Of a heartbeat beside a snapshot, and how many times that of an idle connection its p99 is.
	Slowdown Metric = "× its idle p99"
)

// LessIsBetter says so; for others more is.
func (m Metric) LessIsBetter() bool {
	return !slices.Contains([]Metric{Rate, Data, Bulk, FileRate, Goodput, Share, Commits, Rounds}, m)
}

// Kind is what kind of scenario one is: each has a table of its own.
type Kind string

// The kinds.
const (
	Transports Kind = "Transports"     // of one sender
	Batches    Kind = "Small batches"  // of three members, between which messages go both ways
	Groups     Kind = "Slow followers" // of a raft group of three members
)

// Kinds are all of them, in the order of the tables.
func Kinds() []Kind { return []Kind{Transports, Batches, Groups} }

// Scenario is one row of the tables.
type Scenario struct {
	ID    string
	Title string
	Kind  Kind
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

	group func(*groupRun) (Outcome, error) // of Groups, instead of run
	slow  slow
	// Rounds is how often it is run at most; 0: as often as the others.
	Rounds int
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
	// Follow is how long a slow follower is measured, and Part which part of the data of groups is moved; 0 means all.
	Follow time.Duration
	Part   float64
	// Heap is how many bytes a process holds besides what is measured, without pointers.
	Heap int
}

// Default is long enough for figures that repeat to a few percent on a quiet machine.
var Default = Settings{
	WarmUp: 500 * time.Millisecond, Measure: 1500 * time.Millisecond,
	Settle: 5 * time.Second, Idle: 5 * time.Second, Follow: 2 * stallEvery,
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
		s.Kind = Transports
		if s.Folder == "" {
			continue
		}
		s.Entries, s.Size, s.Peers, s.Window = 1, 64, 1, 1
		if s.run == nil {
			s.Metrics, s.run = []Metric{FileRate, FileCPU, Peak, Calls}, snapshot
		}
	}
	return slices.Concat(all, batches(), groups())
}

// batches are the scenarios of rounds. One outstanding means a message in each write, a few mean a few: all that is
// outstanding travels together.
func batches() []Scenario {
	var all []Scenario
	for _, window := range []int{1, 8, 64, 512} {
		all = append(all, Scenario{
			ID: fmt.Sprintf("small-%d", window), Title: fmt.Sprintf("rounds of an entry of 256 B, %d outstanding", window), Kind: Batches,
			Metrics: []Metric{RoundCPU, Median, Tail, Rounds, RoundAllocs}, Entries: 1, Size: 256, Peers: 2, Window: window,
		})
	}
	return all
}

// slowRounds is how often a scenario is run in which a follower is slow for a time: its line or its application sets the
// pace, so that runs hardly differ.
const slowRounds = 3

// groups are the scenarios of raft groups.
func groups() []Scenario {
	const mb = 1000 * 1000
	narrow, long := line{20 * mb, 40 * time.Millisecond}, line{100 * mb, 150 * time.Millisecond}
	followed := []Metric{Goodput, Share, Waste, Drops, Reports}
	rejoined := []Metric{Goodput, Share, First, Waste, Drops, Reports}
	all := []Scenario{
		{ID: "slow-line", Title: "a follower behind 20 MB/s, 40 ms", slow: slow{line: narrow}},
		{ID: "slow-rejoin", Title: "the same, was down, 150 MiB behind", slow: slow{line: narrow, behind: 150 << 20}, Metrics: rejoined},
		{ID: "slow-process", Title: "a follower whose Process takes 50 MB/s", slow: slow{process: 50 * mb}},
		{ID: "slow-long-line", Title: "a follower behind 100 MB/s, 150 ms", slow: slow{line: long}},
		{ID: "slow-stalls", Title: "Process takes 100 MB/s, stalls 4 s of 8", slow: slow{process: 100 * mb, stall: stallEvery / 2}},
		{ID: "near-rejoin", Title: "a near follower was down, 400 MiB behind", slow: slow{behind: 400 << 20}, Metrics: []Metric{Goodput, First, Waste, Drops, Reports}},
		{ID: "bursts", Title: "nobody is slow, bursts of 300 MiB", group: inBursts, Metrics: []Metric{Commits, TailBulk, CPUPerGB, Drops, Reports}},
	}
	for i := range all {
		s := &all[i]
		s.Kind = Groups
		if s.Metrics == nil {
			s.Metrics = followed
		}
		switch {
		case s.group != nil:
		case s.slow.behind != 0:
			s.group = catchUp
		default:
			s.group, s.Rounds = followSlow, slowRounds
		}
	}
	return all
}

// Select returns the scenarios that a comma-separated list names, in the order of the tables: F stands for FA and FC,
// S for all snapshots, slow for all whose name begins with slow-. An empty list stands for all.
func Select(list string) ([]Scenario, error) {
	if list == "" {
		return All(), nil
	}
	wanted := strings.Split(list, ",")
	found := make([]bool, len(wanted))
	var selected []Scenario
	for _, s := range All() {
		for i, w := range wanted {
			if s.isMeantBy(w) {
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

// isMeantBy says whether a word of a list stands for the scenario.
func (s Scenario) isMeantBy(word string) bool {
	id, word := strings.ToLower(s.ID), strings.ToLower(word)
	if id == word || strings.HasPrefix(id, word+"-") {
		return true
	}
	return len(word) == 1 && s.Kind == Transports && strings.HasPrefix(id, word)
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
	switch s.Kind {
	case Batches:
		return sys.StartMember == nil || sys.MaxInflightBytes != 0 // which is for a raft
	case Groups:
		return sys.StartMember == nil
	}
	return sys.Start == nil || sys.NoIdle && s.ID == "G" || !sys.Snapshots && s.Folder != ""
}
