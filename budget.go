package rafthttp

import (
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/faultpoint"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
)

const (
	// budgetPoll is how often a lane looks again while the budget is used up.
	budgetPoll = 5 * time.Millisecond
)

// budget is the memory that the queues of all peers and remotes share
// (Transport.MaxQueuedBytes).
//
// A queue may hold as much as is left, and no more: so the fullest are refused first,
// n queues that nobody empties leave 1/(n+1) of the memory to the others, and that is
// divided among them in the same way.
type budget struct {
	max   int64
	bulk  int64 // what appends, proposals and snapshots leave to other messages ends here
	chunk int64
	used  atomic.Int64
}

func newBudget(limit int64) *budget {
	return &budget{max: limit, bulk: limit - limit/8, chunk: max(1, min(budgetChunk, limit/(16<<10)))}
}

// reserve takes n bytes, unless that is more than limit.
func (b *budget) reserve(n, limit int64) bool {
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

// isBulk reports whether a message is one of those that fill queues: raft sends
// it again, and works without it for a while. What is not bulk keeps elections
// and leases going.
func isBulk(t raftpb.MessageType) bool {
	return queue.KindOf(t) != queue.Control
}

// purse is what one lane has of the budget: at least what it holds, unless that is a
// message that never fits. It is guarded by the lane's lock.
type purse struct {
	*budget // nil: no bound
	has     int64
}

// cover makes room for m, of this size, in a lane that holds some bytes.
func (p *purse) cover(m *raftpb.Message, size, held int64) bool {
	return p.budget == nil || held+size <= p.has || p.reserveFor(m, size, held)
}

// reserveFor is cover, when the purse has too little. A message that never fits is let in
// when nothing else is held anywhere. It takes all that its kind may have, and no more:
// heartbeats to other peers have their part while it is on its way.
func (p *purse) reserveFor(m *raftpb.Message, size, held int64) bool {
	if faultpoint.Fails(faultpoint.QueueReservation) {
		return false
	}
	need := held + size - p.has
	limit := p.limit(m)
	for _, n := range [...]int64{max(need, p.chunk), need} {
		if p.reserve(n, limit-held) { // as much is left as is held
			p.has += n
			return true
		}
	}
	if size > limit && held == 0 && p.used.CompareAndSwap(p.has, limit) {
		p.has = limit
		return true
	}
	return false
}

// coverRun is cover for messages of the same kind, of this size together: all or none.
func (p *purse) coverRun(m *raftpb.Message, size, held int64) bool {
	need := held + size - p.has
	if p.budget == nil || need <= 0 {
		return true
	}
	if faultpoint.Fails(faultpoint.QueueReservation) || !p.reserve(need, p.limit(m)-held-size) {
		return false
	}
	p.has += need
	return true
}

// limit is where what messages of the kind of m may use ends.
func (b *budget) limit(m *raftpb.Message) int64 {
	if isBulk(m.GetType()) {
		return b.bulk
	}
	return b.max
}

// settle gives back what a lane that holds some bytes has too much of; all of it
// if the lane will not need it soon.
func (p *purse) settle(held int64, all bool) {
	if p.budget == nil {
		return
	}
	spare := max(p.has-held, 0)
	if !all {
		if spare -= p.chunk; spare < p.chunk {
			return
		}
	}
	p.has -= spare
	p.used.Add(-spare)
}
