package queue

import (
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/faultpoint"
)

// PollInterval is how often a queue tries again while the budget is exhausted.
const PollInterval = 5 * time.Millisecond

// Budget is the memory that the queues of all peers and remotes share
// (Transport.MaxQueuedBytes).
//
// A queue may hold as much as is left, and no more: so the fullest are refused first,
// n queues that are not emptied leave 1/(n+1) of the memory to the others, and that is
// divided among them in the same way.
type Budget struct {
	max   int64
	bulk  int64 // limit for appends, proposals and snapshots, which leave the rest to other messages
	chunk int64
	used  atomic.Int64
}

// NewBudget returns a budget of this many bytes.
func NewBudget(limit int64) *Budget {
	return &Budget{max: limit, bulk: limit - limit/8, chunk: max(1, min(budgetChunk, limit/(16<<10)))}
}

// take reserves n bytes, unless that is more than limit.
func (b *Budget) take(n, limit int64) bool {
	for {
		used := b.used.Load()
		if used+n > limit {
			return false
		}
		if b.used.CompareAndSwap(used, used+n) {
			return true
		}
	}
}

// Max returns the limit given to NewBudget.
func (b *Budget) Max() int64 { return b.max }

// Used returns the bytes reserved now.
func (b *Budget) Used() int64 { return b.used.Load() }

// isBulk reports whether a message is one of those that fill queues: raft sends
// it again, and works without it for a while. The other messages keep elections
// and leases going.
func isBulk(t raftpb.MessageType) bool {
	return KindOf(t) != Control
}

// Reservation is the part of a budget reserved by one queue: at least the bytes that it holds, except
// for a message that never fits. The zero value has no limit. It is guarded by the queue's lock.
type Reservation struct {
	budget   *Budget // nil: no limit
	reserved int64
}

// NewReservation returns an empty reservation of b, which may be nil.
func NewReservation(b *Budget) Reservation { return Reservation{budget: b} }

// Reserved returns the bytes reserved now.
func (r *Reservation) Reserved() int64 { return r.reserved }

// Reserve makes room for m, of this size, in a queue that holds this many bytes.
func (r *Reservation) Reserve(m *raftpb.Message, size, held int64) bool {
	return r.budget == nil || held+size <= r.reserved || r.reserveMore(m, size, held)
}

// reserveMore is Reserve when the reservation is too small. A message that never fits is accepted
// when no other queue holds anything. It takes all that its kind may have, and no more:
// heartbeats to other peers have their part while it is in transit.
func (r *Reservation) reserveMore(m *raftpb.Message, size, held int64) bool {
	if faultpoint.Fails(faultpoint.QueueReservation) {
		return false
	}
	need := held + size - r.reserved
	limit := r.budget.limit(m)
	for _, n := range [...]int64{max(need, r.budget.chunk), need} {
		if r.budget.take(n, limit-held) { // as much is left as is held
			r.reserved += n
			return true
		}
	}
	if size > limit && held == 0 && r.budget.used.CompareAndSwap(r.reserved, limit) {
		r.reserved = limit
		return true
	}
	return false
}

// ReserveRun is Reserve for messages of the same kind, of this size together: all or none.
func (r *Reservation) ReserveRun(m *raftpb.Message, size, held int64) bool {
	need := held + size - r.reserved
	if r.budget == nil || need <= 0 {
		return true
	}
	if faultpoint.Fails(faultpoint.QueueReservation) || !r.budget.take(need, r.budget.limit(m)-held-size) {
		return false
	}
	r.reserved += need
	return true
}

// limit is the limit of the budget for messages of the kind of m.
func (b *Budget) limit(m *raftpb.Message) int64 {
	if isBulk(m.GetType()) {
		return b.bulk
	}
	return b.max
}

// Release returns the part of the reservation that a queue holding this many bytes does not need; all
// of it if the queue will not need it soon.
func (r *Reservation) Release(held int64, all bool) {
	if r.budget == nil {
		return
	}
	spare := max(r.reserved-held, 0)
	if !all {
		if spare -= r.budget.chunk; spare < r.budget.chunk {
			return
		}
	}
	r.reserved -= spare
	r.budget.used.Add(-spare)
}
