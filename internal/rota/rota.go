// Package rota spreads periodic work for many members over an interval, so that it is not done for all at once.
package rota

import (
	"math/bits"
	"math/rand/v2"
	"time"
)

const (
	rotaBits  = 5
	rotaSlots = 1 << rotaBits // parts of a rota's interval
)

// Rota spreads work that is due once per interval for each member over the interval, if there
// are many: waking up for each would cost more than serving some together. Each
// member has a slot of the interval, by its id, so that it costs no memory; the slots
// of different Rotas differ, so that their work for one member is not done at the same
// time. It is not safe for concurrent use.
type Rota[K ~uint64, V comparable] struct {
	together int           // approximate number of members that may share a slot
	step     time.Duration // length of a slot
	base     uint64        // determines the slots of all members
	began    time.Time
	turn     int64 // the last served slot, counted from began
}

// New returns a rota of an interval that starts now, with about so many members together, if there are enough slots:
// 32.
func New[K ~uint64, V comparable](interval time.Duration, together int) *Rota[K, V] {
	return &Rota[K, V]{together: together, step: interval / rotaSlots, base: rand.Uint64(), began: time.Now()}
}

// slot returns the slot of one of n members. Those of successive ids are far apart.
func (r *Rota[K, V]) slot(id K, n int) int64 {
	const golden = 0x9E3779B97F4A7C15 // 2^64 divided by the golden ratio
	fine := int64((uint64(id)*golden + r.base) >> (64 - rotaBits))
	used := min(max(bits.Len(uint(n/r.together))-1, 0), rotaBits) // bits that are used
	return fine &^ (rotaSlots>>used - 1)
}

// after returns how many slots one slot is after the last turn of another.
func (r *Rota[K, V]) after(slot, other int64) int64 { return (slot - other) & (rotaSlots - 1) }

// Due returns the members whose slot has begun since the last call, each once, of
// those that were known then: a new one waits for its slot.
func (r *Rota[K, V]) Due(members, known map[K]V) (due []V) {
	before, now := r.turn, int64(time.Since(r.began)/r.step)
	r.turn = now
	for id, m := range members {
		if known[id] == m && r.after(now, r.slot(id, len(members))) < now-before {
			due = append(due, m)
		}
	}
	return due
}

// Wait returns the time until the next slot with a member, or an
// interval if there is no member.
func (r *Rota[K, V]) Wait(members map[K]V) time.Duration {
	next := int64(rotaSlots)
	for id := range members {
		next = min(next, 1+r.after(r.slot(id, len(members)), r.turn+1))
	}
	return time.Until(r.began.Add(time.Duration(r.turn+next) * r.step))
}
