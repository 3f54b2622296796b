package statuspage

import (
	"time"

	"github.com/seed-4d73690b/rafthttp"
)

// partsView is a bar of where appends spend their time.
type partsView struct {
	Name, Total string
	Quantiles   string
	Title       string
	Slow        bool
	Parts       []partView
}

// partView is a part of the bar. X and Width are of 100.
type partView struct {
	Name, Took string
	X, Width   float64
	Slow       bool
}

// part is a part of the way of appends.
type part struct {
	name string
	took time.Duration
}

// newParts returns the bars of recent appends: of those to the peer, and of those from it.
func newParts(a rafthttp.AppendStatus) (all []partsView) {
	r := a.Recent
	if r.Queue+r.Wire+r.Follower > 0 {
		v := newPartsView("Appends to it", a.Slow, []part{{"queue", r.Queue}, {"wire", r.Wire}, {"follower", r.Follower}})
		v.Quantiles = quantiles(a.Answer)
		v.Title = "in the last 30–90 s, answered after " + v.Quantiles + "; queue " + quantiles(a.Queue) + "; wire " + quantiles(a.Wire) + "; follower " + quantiles(a.Follower)
		all = append(all, v)
	}
	if r.Receive+r.Process > 0 {
		v := newPartsView("Appends from it", a.Slow, []part{{"receive", r.Receive}, {"process", r.Process}})
		v.Title = "in the last 30–90 s, receive queue " + quantiles(a.Receive) + "; Process " + quantiles(a.Process)
		all = append(all, v)
	}
	return all
}

// quantiles are those of the last 30 to 90 s.
func quantiles(l rafthttp.LatencyStatus) string {
	if l.P50 == 0 {
		return none
	}
	return duration(l.P50) + " (p50), " + duration(l.P99) + " (p99)"
}

func newPartsView(name string, slow *rafthttp.SlowStatus, parts []part) partsView {
	v := partsView{Name: name}
	var total time.Duration
	for _, p := range parts {
		total += p.took
	}
	x := 0.0
	for _, p := range parts {
		one := partView{Name: p.name, Took: duration(p.took), X: x, Slow: slow != nil && slow.Part == p.name}
		if total > 0 {
			one.Width = 100 * p.took.Seconds() / total.Seconds()
		}
		x += one.Width
		v.Slow = v.Slow || one.Slow
		v.Parts = append(v.Parts, one)
	}
	v.Total = duration(total)
	return v
}
