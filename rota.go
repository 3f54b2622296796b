package rafthttp

import (
	"math/bits"
	"math/rand/v2"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
)

const (
	rotaBits  = 5
	rotaSlots = 1 << rotaBits // parts of a rota's interval
)

// rota spreads over an interval what is due once in it for each peer, if there
// are many: to wake up for each would cost more than to serve some together. Each
// peer has a slot of the interval, by its id, so that it costs no memory; the slots
// of one member are not those of another, so that not all turn to the same peer
// together. It is for housekeeping alone.
type rota struct {
	together int           // about how many peers may share a slot
	step     time.Duration // length of a slot
	base     uint64        // decides on the slots of all peers
	began    time.Time
	turn     int64 // the last slot that was served, counted from began
}

func newRota(interval time.Duration, together int) *rota {
	return &rota{together: together, step: interval / rotaSlots, base: rand.Uint64(), began: time.Now()}
}

// slot returns the slot of one of n peers. Those of successive ids are far apart.
func (r *rota) slot(id types.ID, n int) int64 {
	const golden = 0x9E3779B97F4A7C15 // 2^64 divided by the golden ratio
	fine := int64((uint64(id)*golden + r.base) >> (64 - rotaBits))
	used := min(max(bits.Len(uint(n/r.together))-1, 0), rotaBits) // that decide
	return fine &^ (rotaSlots>>used - 1)
}

// after returns how many slots one slot is after the last turn of another.
func (r *rota) after(slot, other int64) int64 { return (slot - other) & (rotaSlots - 1) }

// due returns the peers whose slot has begun since the last call, each once, of
// those that were known then: a new one waits for its slot.
func (r *rota) due(peers, known map[types.ID]*peer) (due []*peer) {
	before, now := r.turn, int64(time.Since(r.began)/r.step)
	r.turn = now
	for id, p := range peers {
		if known[id] == p && r.after(now, r.slot(id, len(peers))) < now-before {
			due = append(due, p)
		}
	}
	return due
}

// wait returns how long it is until the next slot that a peer has, or for an
// interval if there is no peer.
func (r *rota) wait(peers map[types.ID]*peer) time.Duration {
	next := int64(rotaSlots)
	for id := range peers {
		next = min(next, 1+r.after(r.slot(id, len(peers)), r.turn+1))
	}
	return time.Until(r.began.Add(time.Duration(r.turn+next) * r.step))
}
