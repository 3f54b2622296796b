// Package network connects the members of a cluster of processes so that each way between two of them can be made bad by
// itself: by packets, between network namespaces (Switch), or where these cannot be had, by TCP proxies (Proxies).
package network

import (
	"slices"
	"sync"
	"time"
)

// Conditions are what a way between two members is like. The zero value is a good one.
type Conditions struct {
	Cut   bool
	Loss  float64       // probability that a packet is lost
	Delay time.Duration // of each packet
	Rate  int           // bytes a second; 0: no limit
	Reset int64         // connections are reset after so many bytes at most; 0: they are not
}

// and returns what a way is like that has both conditions.
func (c Conditions) and(d Conditions) Conditions {
	return Conditions{
		Cut:   c.Cut || d.Cut,
		Loss:  1 - (1-c.Loss)*(1-d.Loss),
		Delay: c.Delay + d.Delay,
		Rate:  int(tighter(int64(c.Rate), int64(d.Rate))),
		Reset: tighter(c.Reset, d.Reset),
	}
}

// tighter returns the smaller of two limits; 0 is none.
func tighter(a, b int64) int64 {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

// Link is one way from one member to another. Its methods may be called concurrently.
type Link struct {
	apply func(Conditions)

	mu     sync.Mutex
	faults []*Conditions
}

// NewLink returns a good link that calls apply, one call at a time, whenever its conditions change.
func NewLink(apply func(Conditions)) *Link { return &Link{apply: apply} }

// Add makes the way worse until remove is called, in addition to what else is wrong with it. Removing twice does no harm.
func (l *Link) Add(c Conditions) (remove func()) {
	fault := &c
	l.change(func() { l.faults = append(l.faults, fault) })
	return func() {
		l.change(func() { l.faults = slices.DeleteFunc(l.faults, func(f *Conditions) bool { return f == fault }) })
	}
}

func (l *Link) change(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
	var all Conditions
	for _, f := range l.faults {
		all = all.and(*f)
	}
	l.apply(all)
}

// Faults returns how many faults the way has.
func (l *Link) Faults() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.faults)
}
