//go:build faultpoints

package faultpoint

import (
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync/atomic"
	"time"
)

const enabled = true

// Number of hits with an effect, per outOf hits, in this order.
const (
	outOf  = 64
	yields = 6
	sleeps = 6
	fails  = 4
)

// plan is the configuration by Seed. It does not change.
type plan struct {
	seed uint64
	only [points]bool
}

var (
	current atomic.Pointer[plan] // nil: only counting
	hits    [points]atomic.Uint64
	faults  [points]atomic.Uint64
)

// Seed sets the effects of later hits, and resets the counts to 0. With the seed 0 hits have no effect and
// are counted. With points given, only those have effects. It may be called at any time.
func Seed(seed uint64, only ...Point) {
	var p *plan
	if seed != 0 {
		p = &plan{seed: seed}
		for i := range p.only {
			p.only[i] = len(only) == 0 || slices.Contains(only, Point(i))
		}
	}
	for i := range table {
		hits[i].Store(0)
		faults[i].Store(0)
	}
	current.Store(p)
}

// Hits returns how often each point was hit since the last Seed, by name; 0 where it was not.
func Hits() map[string]uint64 { return named(&hits) }

// Faults returns how many of the hits had an effect.
func Faults() map[string]uint64 { return named(&faults) }

func named(counts *[points]atomic.Uint64) map[string]uint64 {
	all := make(map[string]uint64, points)
	for i := range counts {
		all[table[i].Name] = counts[i].Load()
	}
	return all
}

// Hit marks a place that cannot fail.
func Hit(p Point) { strike(p) }

// Fails marks a place that can fail, and reports whether it does. It does not sleep if a lock is held.
func Fails(p Point) bool {
	r, failed := strike(p)
	return failed && r != nil
}

// Torn returns the bytes read from a file: all, or a part from its beginning.
func Torn(p Point, b []byte) []byte {
	if r, failed := strike(p); failed && len(b) > 0 {
		return b[:r.IntN(len(b))]
	}
	return b
}

// strike applies the effect of a hit, and reports whether it is a failure; r is for further random values then.
func strike(p Point) (r *rand.Rand, failed bool) {
	n := hits[p].Add(1)
	c := current.Load()
	if c == nil || !c.only[p] {
		return nil, false
	}
	r = rand.New(rand.NewPCG(c.seed, uint64(p)<<56|n))
	switch x := r.IntN(outOf); {
	case x < yields && (table[p].Waits || table[p].Yields):
		faults[p].Add(1)
		for range 1 + r.IntN(8) {
			runtime.Gosched()
		}
	case x >= yields && x < yields+sleeps && table[p].Waits:
		faults[p].Add(1)
		time.Sleep(upTo(r, longest(p)))
	case x >= yields+sleeps && x < yields+sleeps+fails && table[p].Fails:
		faults[p].Add(1)
		return r, true
	}
	return r, false
}

// upTo returns a time of any order of magnitude from a ten thousandth of most.
func upTo(r *rand.Rand, most time.Duration) time.Duration {
	return time.Duration(float64(most) * math.Pow(1e-4, r.Float64()))
}

// longest returns how long the caller may sleep: the clock of a bubble starts in 2000.
func longest(p Point) time.Duration {
	most := MaxRealSleep
	if time.Now().Year() < 2010 {
		most = MaxSleep
	}
	if table[p].Often {
		most /= OftenShorter
	}
	return most
}
