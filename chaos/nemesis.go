package main

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

const (
	calm      = 8 * time.Second  // at most, between the beginnings of faults, in the calmest of eras
	leastCalm = 2 * time.Second  // the same, in the wildest
	faultTime = 15 * time.Second // at most, that a fault lasts
	leastKind = 4                // kinds of faults in an era
)

// fault is one kind of what a nemesis does.
type fault struct {
	name string
	// begin begins it, and says what it has done and what ends it: nothing, if end is nil. It reports false if there is
	// nothing to be done it to.
	begin func(*nemesis) (what string, end func(), ok bool)
}

// undo ends a fault at its time.
type undo struct {
	due  time.Time
	name string
	do   func()
}

// nemesis does to a cluster what its seed decides: it composes faults at random. Its methods are for one goroutine.
type nemesis struct {
	c      *cluster
	rand   *rand.Rand
	faults []fault
	undos  []undo
	counts map[string]int

	background sync.WaitGroup // faults that take their time
	changing   sync.Mutex     // one change of membership at a time
}

func newNemesis(c *cluster, seed uint64, faults []fault) *nemesis {
	return &nemesis{c: c, rand: rand.New(rand.NewPCG(seed, 1)), faults: faults, counts: make(map[string]int)}
}

// draw returns the kinds of faults of an era: some of them, so that there are also eras without each.
func (n *nemesis) draw() []fault {
	kinds := slices.Clone(n.faults)
	n.rand.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
	least := min(leastKind, len(kinds))
	return kinds[:least+n.rand.IntN(len(kinds)-least+1)]
}

// rage composes faults of some kinds until ctx ends.
func (n *nemesis) rage(ctx context.Context, kinds []fault) {
	calm := n.logUniform(leastCalm, calm)
	for ctx.Err() == nil {
		n.strike(kinds[n.rand.IntN(len(kinds))], n.upTo(faultTime))
		next := time.Now().Add(n.upTo(calm))
		for _, u := range n.due(next) {
			wait(ctx, time.Until(u.due))
			n.undo(u)
		}
		wait(ctx, time.Until(next))
	}
}

// strike begins a fault that lasts for some time.
func (n *nemesis) strike(f fault, lasts time.Duration) {
	what, end, ok := f.begin(n)
	if !ok {
		return
	}
	n.counts[f.name]++
	if end == nil {
		n.c.note("%s: %s", f.name, what)
		return
	}
	n.c.note("%s: %s, for %v", f.name, what, lasts.Round(time.Millisecond))
	n.undos = append(n.undos, undo{time.Now().Add(lasts), f.name + ": " + what, end})
}

// due takes out what ends until a time, in order.
func (n *nemesis) due(until time.Time) (due []undo) {
	slices.SortStableFunc(n.undos, func(a, b undo) int { return a.due.Compare(b.due) })
	for len(n.undos) > 0 && !n.undos[0].due.After(until) {
		due, n.undos = append(due, n.undos[0]), n.undos[1:]
	}
	return due
}

func (n *nemesis) undo(u undo) {
	n.c.note("end of %s", u.name)
	u.do()
}

// mend ends all faults, and returns when nothing of them is under way.
func (n *nemesis) mend() {
	for _, u := range n.due(time.Now().Add(2 * faultTime)) {
		n.undo(u)
	}
	n.background.Wait()
	n.c.note("all is mended")
}

func (n *nemesis) upTo(d time.Duration) time.Duration { return time.Duration(n.rand.Int64N(int64(d))) }

// wait waits for a time, or until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// everyone returns all members in random order.
func (n *nemesis) everyone() []*member {
	all := slices.Clone(n.c.members)
	n.rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// take returns up to k members that run, and that no other fault has in its hands.
func (n *nemesis) take(k int, fault string) (taken []*member) {
	for _, m := range n.everyone() {
		if len(taken) < k && m.hold(fault) {
			taken = append(taken, m)
		}
	}
	return taken
}

func names(of []*member) (s string) {
	for i, m := range of {
		if i > 0 {
			s += ", "
		}
		s += m.name()
	}
	return s
}

// some returns 1 more often than 2, and so on, up to most.
func (n *nemesis) some(most int) int {
	k := 1
	for k < most && n.rand.IntN(3) == 0 {
		k++
	}
	return k
}

// logUniform returns a time between two, of any order of magnitude.
func (n *nemesis) logUniform(least, most time.Duration) time.Duration {
	return time.Duration(float64(least) * math.Pow(float64(most)/float64(least), n.rand.Float64()))
}
