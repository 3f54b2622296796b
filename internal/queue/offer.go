package queue

import (
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// Offer queues or refuses it. A message larger than the limit in bytes is accepted while none
// is held.
func (q *Queue) Offer(it Item) Verdict {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.workers == q.waiting { // a working one reads the clock itself
		q.clock = time.Since(q.born)
	}
	v := q.accept(it)
	if v == Accepted {
		q.useWorker()
	}
	return v
}

// OfferRun offers messages in order, and returns how many it has handled before the
// first refused one, if any, with the verdict on that one. Of the handled ones, lost were withheld, for
// the reason why: they are lost, and raft will be told.
func (q *Queue) OfferRun(msgs []*raftpb.Message) (n, lost int, v Verdict, why error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.workers == q.waiting {
		q.clock = time.Since(q.born)
	}
	defer q.useWorker()
	for ; n < len(msgs); n++ {
		switch v := q.accept(NewItem(msgs[n])); v {
		case Accepted, Duplicate:
		case Withheld:
			lost++
		default:
			return n, lost, v, q.withholds
		}
	}
	return n, lost, Accepted, q.withholds
}

// OfferAll offers items in order and returns those from the first refused one
// on, with the verdict on it. Workers see all accepted ones at once.
func (q *Queue) OfferAll(items []Item) ([]Item, Verdict) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.clock = time.Since(q.born)
	defer q.useWorker()
	if q.acceptAll(items) {
		return items[len(items):], Accepted
	}
	for i, it := range items {
		if v := q.accept(it); v != Accepted {
			return items[i:], v
		}
	}
	return items[len(items):], Accepted
}

// acceptAll is called with mu held: it accepts items, if it need not check each one,
// as for a receive queue that has room.
func (q *Queue) acceptAll(items []Item) bool {
	if !q.accepting || q.window != nil || q.cfg.Limits.MessageBytes > 0 || len(q.fifos) > 1 || len(items) == 0 {
		return false
	}
	all, _ := measure(items)
	f := &q.fifos[0]
	if f.held+all.messages > q.cfg.Limits.Messages || f.heldBytes+all.bytes > q.cfg.Limits.Bytes ||
		!q.reservation.ReserveRun(items[0].Msg, all.bytes, q.heldBytes) {
		return false
	}
	f.pushAll(items, all, q.clock)
	f.noteFull(&q.cfg.Limits)
	q.queued += all.messages
	q.held += all.messages
	q.heldBytes += all.bytes
	q.used = true
	return true
}

// accept is called with mu held.
func (q *Queue) accept(it Item) Verdict {
	if !q.accepting {
		return Down
	}
	if q.cfg.Limits.MessageBytes > 0 && it.Size > q.cfg.Limits.MessageBytes {
		return TooLarge
	}
	if q.window != nil && IsAppend(it.Msg) {
		var v Verdict
		if it, v = q.window.checkItem(it, q.clock); v != Accepted {
			if v == Duplicate {
				q.duplicates.Add(1)
			}
			return v
		}
	}
	f := q.fifoOf(it.Msg)
	refusal := Accepted
	if !f.fits(it.Size, &q.cfg.Limits) {
		refusal = Full
	} else if !q.reservation.Reserve(it.Msg, it.Size, q.heldBytes) {
		refusal = OutOfMemory
	}
	if refusal != Accepted {
		if q.window != nil && q.window.overflow(it, f) {
			q.withholds = refusal.Err()
			return Withheld
		}
		return refusal
	}
	it.at = q.clock
	f.push(it)
	f.noteFull(&q.cfg.Limits)
	q.queued++
	q.held++
	q.heldBytes += it.Size
	q.used = true
	if it.tracked() {
		if q.window.add(it.Msg); q.window.closed {
			q.window.open()
		}
	}
	return Accepted
}
