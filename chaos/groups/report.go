package groups

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Report is what happened in a simulation.
type Report struct {
	Eras      int
	Simulated time.Duration
	Faults    map[string]int

	Proposals                  int
	Starts                     int // of nodes
	Joined, Parted, Lost, Told int // replicas; those that ErrorC has told of their removal
	Installed, Databases       int // snapshots; databases that were saved
	Reported, Failed           int // reports of snapshots, and those of failures

	Recovered time.Duration // the longest time from the end of faults until all groups had recovered
	Slowest   time.Duration // the slowest proposal of a group without a fault
}

// Add adds another report.
func (r *Report) Add(o Report) {
	if r.Faults == nil {
		r.Faults = map[string]int{}
	}
	for name, n := range o.Faults {
		r.Faults[name] += n
	}
	for sum, n := range map[*int]int{
		&r.Eras: o.Eras, &r.Proposals: o.Proposals, &r.Starts: o.Starts, &r.Joined: o.Joined, &r.Parted: o.Parted, &r.Lost: o.Lost,
		&r.Told: o.Told, &r.Installed: o.Installed, &r.Databases: o.Databases, &r.Reported: o.Reported, &r.Failed: o.Failed,
	} {
		*sum += n
	}
	r.Simulated += o.Simulated
	r.Recovered, r.Slowest = max(r.Recovered, o.Recovered), max(r.Slowest, o.Slowest)
}

// String implements fmt.Stringer.
func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v simulated in %d eras, %d proposals, %d starts of nodes, replicas: %d joined, %d parted, %d lost, %d told; ",
		r.Simulated.Round(time.Second), r.Eras, r.Proposals, r.Starts, r.Joined, r.Parted, r.Lost, r.Told)
	fmt.Fprintf(&b, "%d snapshots installed, %d databases saved, %d reports with %d failures; recovered within %v, slowest proposal beside faults %v; faults:",
		r.Installed, r.Databases, r.Reported, r.Failed, r.Recovered.Round(time.Millisecond), r.Slowest.Round(time.Millisecond))
	for _, name := range slices.Sorted(maps.Keys(r.Faults)) {
		fmt.Fprintf(&b, " %s %d", name, r.Faults[name])
	}
	return b.String()
}

// Missing returns what did not happen, of what must happen in a long simulation.
func (r Report) Missing() (missing []string) {
	for _, f := range faults {
		if r.Faults[f.name] == 0 {
			missing = append(missing, f.name)
		}
	}
	for name, n := range map[string]int{
		"a told replica": r.Told, "a lost disk": r.Lost, "a snapshot": r.Installed, "a database": r.Databases, "a parted replica": r.Parted,
	} {
		if n == 0 {
			missing = append(missing, name)
		}
	}
	slices.Sort(missing)
	return missing
}
