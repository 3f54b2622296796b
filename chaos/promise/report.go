package promise

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/faultpoint"
)

// Report is what was done in runs.
type Report struct {
	Runs      int
	Simulated time.Duration
	Count     map[string]int // what happened, by name
	Checks    map[string]int // what judges looked at, by judge
}

func newReport() Report {
	return Report{Runs: 1, Count: map[string]int{}, Checks: map[string]int{}}
}

// Add adds another report.
func (r *Report) Add(o Report) {
	if r.Count == nil {
		r.Count, r.Checks = map[string]int{}, map[string]int{}
	}
	r.Runs += o.Runs
	r.Simulated += o.Simulated
	for name, n := range o.Count {
		r.Count[name] += n
	}
	for name, n := range o.Checks {
		r.Checks[name] += n
	}
}

// String returns the report as some lines.
func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d runs, %v simulated", r.Runs, r.Simulated.Round(time.Second))
	for _, part := range []struct {
		title string
		n     map[string]int
	}{{"covered", r.Count}, {"checked", r.Checks}} {
		fmt.Fprintf(&b, "\n%s:", part.title)
		for _, name := range slices.Sorted(maps.Keys(part.n)) {
			fmt.Fprintf(&b, " %s %d,", name, part.n[name])
		}
	}
	return strings.TrimSuffix(b.String(), ",")
}

// Missing returns what should have happened in a larger number of runs and has not: the names of counters that are 0.
func (r Report) Missing() (names []string) {
	for _, name := range covered() {
		if r.Count[name] == 0 {
			names = append(names, name)
		}
	}
	for _, j := range judges {
		if r.Checks[j.name] == 0 {
			names = append(names, "checks of judge "+j.name)
		}
	}
	return names
}

// covered returns the counters that must not be 0 in a larger number of runs.
func covered() []string {
	names := []string{
		"restarts", "options changed by a restart", "peers", "posts", "snapshots sent", "snapshots received", "snapshots resumed",
		"snapshots failed", "messages processed", "messages reported", "messages dropped by the receiver",
	}
	for _, d := range dimensions {
		names = append(names, "dimension "+d.name)
	}
	for _, e := range extras() {
		names = append(names, "dimension "+e.name)
	}
	names = append(names, coveredOfGroups()...)
	if hasPoints {
		for _, p := range faultpoint.Table() {
			names = append(names, "fault point "+p.Name)
		}
	}
	for _, a := range actions {
		if a != Scene {
			names = append(names, "event "+string(a))
		}
	}
	for _, one := range scenes() {
		names = append(names, "scene "+one.name)
	}
	return names
}
