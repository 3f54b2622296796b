package sim

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Report is what was done in a simulation.
type Report struct {
	Eras                     int
	Simulated                time.Duration
	Faults                   map[string]int
	Appends, Reads, Unknown  int // operations that ended, and appends of which the end is not known
	Dropped                  int // appends that raft refused
	Checked                  int // operations in linearizable histories
	Snapshots, Elections     int
	Restarts, Joined, Parted int
	Loops                    [loops]int // starts with each

	Databases, Resumed int // databases that came beside their message, and that were resumed among them
	Posts              int // messages that went by post
	Told               int // members that ErrorC told of their removal
	TLS                int // clusters with TLS

	Connected, Settled time.Duration // the longest time from the end of all faults until all streams were up, and all was well
}

// Add adds another report.
func (r *Report) Add(o Report) {
	if r.Faults == nil {
		r.Faults = make(map[string]int)
	}
	for name, n := range o.Faults {
		r.Faults[name] += n
	}
	for sum, n := range map[*int]int{
		&r.Eras: o.Eras, &r.Appends: o.Appends, &r.Reads: o.Reads, &r.Unknown: o.Unknown, &r.Dropped: o.Dropped, &r.Checked: o.Checked,
		&r.Snapshots: o.Snapshots, &r.Elections: o.Elections, &r.Restarts: o.Restarts, &r.Joined: o.Joined, &r.Parted: o.Parted,
		&r.Databases: o.Databases, &r.Resumed: o.Resumed, &r.Posts: o.Posts, &r.Told: o.Told, &r.TLS: o.TLS,
	} {
		*sum += n
	}
	for l, n := range o.Loops {
		r.Loops[l] += n
	}
	r.Simulated += o.Simulated
	r.Connected, r.Settled = max(r.Connected, o.Connected), max(r.Settled, o.Settled)
}

// Uncovered names what a long simulation has to come by, and this one has not.
func (r *Report) Uncovered() (names []string) {
	counts := map[string]int{
		"snapshots": r.Snapshots, "databases": r.Databases, "resumed databases": r.Resumed, "posts": r.Posts,
		"members told of their removal": r.Told, "joined": r.Joined, "left": r.Parted, "restarts": r.Restarts, "operations": r.Checked,
	}
	for _, f := range faults {
		counts["fault "+f.name] = r.Faults[f.name]
	}
	for l, n := range r.Loops {
		counts["loop "+loop(l).String()] = n
	}
	for name, n := range counts {
		if n == 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// String returns the report as some lines.
func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d eras, %v simulated; %d appends and %d reads ended, %d appends unknown, %d refused; %d operations checked\n",
		r.Eras, r.Simulated.Round(time.Second), r.Appends, r.Reads, r.Unknown, r.Dropped, r.Checked)
	fmt.Fprintf(&b, "all streams up at most %v after the faults of an era, all well %v\n", r.Connected.Round(time.Millisecond), r.Settled.Round(time.Millisecond))
	fmt.Fprintf(&b, "%d snapshots installed, %d databases came, %d of them resumed, %d messages by post, %d clusters with TLS\n",
		r.Snapshots, r.Databases, r.Resumed, r.Posts, r.TLS)
	fmt.Fprintf(&b, "%d terms, %d starts, %d members joined, %d left, %d were told that they were removed; loops:",
		r.Elections, r.Restarts, r.Joined, r.Parted, r.Told)
	for l, n := range r.Loops {
		fmt.Fprintf(&b, " %v %d,", loop(l), n)
	}
	b.WriteString(" faults:")
	for _, name := range slices.Sorted(maps.Keys(r.Faults)) {
		fmt.Fprintf(&b, " %s %d,", name, r.Faults[name])
	}
	return strings.TrimSuffix(b.String(), ",")
}
