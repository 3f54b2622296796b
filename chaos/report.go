package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/seed-4d73690b/rafthttp/chaos/internal/history"
)

// report is what was done in a trial.
type report struct {
	took        time.Duration
	eras        int
	faults      map[string]int // by kind
	operations  map[string]int // by kind and outcome
	checked     int            // operations of which an order had to be found
	kept        int            // acknowledged writes to keys of their own that were there after their era
	reread      int            // keys that had their last value in the end
	term        uint64
	slowest     time.Duration // from the end of all faults until all was well
	first, last footprint     // most of any member, before the first fault and after the last one
	starts      int           // of processes
	async       int           // of these, with AsyncStorageWrites
	snapshots   int           // that were installed
	moved       int64         // replicas of shards
	packets     string
}

func (r *report) add(ops []history.Op) {
	if r.operations == nil {
		r.operations = make(map[string]int)
	}
	for _, op := range ops {
		r.operations[fmt.Sprintf("%s %s", op.Kind, op.Outcome)]++
	}
}

// total is the number of faults.
func (r *report) total() (n int) {
	for _, k := range r.faults {
		n += k
	}
	return n
}

// String returns the report as some lines.
func (r *report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "ran for %v: %d eras, %d faults, %d processes started (%d with AsyncStorageWrites), %d terms of raft, %d snapshots installed\n",
		r.took.Round(time.Second), r.eras, r.total(), r.starts, r.async, r.term, r.snapshots)
	fmt.Fprintf(&b, "faults: %s\n", counts(r.faults))
	if r.moved > 0 {
		fmt.Fprintf(&b, "moved: %d replicas\n", r.moved)
	}
	fmt.Fprintf(&b, "operations: %s\n", counts(r.operations))
	fmt.Fprintf(&b, "checked: %d operations in linearizable histories, %d acknowledged writes that had to stay, %d keys read again in the end\n",
		r.checked, r.kept, r.reread)
	fmt.Fprintf(&b, "members were all equal and well at most %.1fs after the faults of an era had ended\n", r.slowest.Seconds())
	fmt.Fprintf(&b, "a member has at most %d goroutines and %d descriptors; before the first fault %d and %d\n",
		r.last.goroutines, r.last.descriptors, r.first.goroutines, r.first.descriptors)
	if r.packets != "" {
		fmt.Fprintln(&b, r.packets)
	}
	return b.String()
}

func counts(m map[string]int) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		all = append(all, fmt.Sprintf("%s %d", name, m[name]))
	}
	return strings.Join(all, ", ")
}
