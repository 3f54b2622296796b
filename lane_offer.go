package rafthttp

import (
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// offer gives it to the lane, or refuses. Something larger than the lane's
// byte limit is accepted while the lane is empty.
func (l *lane) offer(it item) verdict {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.workers == l.waiting { // one that is at work reads the clock by itself
		l.clock = time.Since(l.born)
	}
	v := l.admit(it)
	if v == accepted {
		l.start()
	}
	return v
}

// offerRun offers messages in order, and says how many it has dealt with before the
// first that it refused, if any. So many of them were withheld, for that reason: they
// are lost, and raft will be told.
func (l *lane) offerRun(msgs []*raftpb.Message) (n, lost int, v verdict, why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.workers == l.waiting {
		l.clock = time.Since(l.born)
	}
	defer l.start()
	for ; n < len(msgs); n++ {
		switch v := l.admit(newItem(msgs[n])); v {
		case accepted, duplicate:
		case withheld:
			lost++
		default:
			return n, lost, v, l.withholds
		}
	}
	return n, lost, accepted, l.withholds
}

// offerAll offers items in order and returns those from the first refused one
// on. Lane workers see all that was accepted at once.
func (l *lane) offerAll(items []item) ([]item, verdict) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clock = time.Since(l.born)
	defer l.start()
	if l.admitAll(items) {
		return items[len(items):], accepted
	}
	for i, it := range items {
		if v := l.admit(it); v != accepted {
			return items[i:], v
		}
	}
	return items[len(items):], accepted
}

// admitAll is called with mu held: it accepts items, if that is sure without a look at each,
// as it is for a receive lane that has room.
func (l *lane) admitAll(items []item) bool {
	if !l.open || l.window != nil || l.cfg.limits.message > 0 || len(l.queues) > 1 || len(items) == 0 {
		return false
	}
	all, _ := measure(items)
	q := &l.queues[0]
	if q.held+all.messages > l.cfg.limits.messages || q.heldBytes+all.bytes > l.cfg.limits.bytes ||
		!l.reservation.ReserveRun(items[0].m, all.bytes, l.heldBytes) {
		return false
	}
	q.pushAll(items, all, l.clock)
	l.queued += all.messages
	l.held += all.messages
	l.heldBytes += all.bytes
	l.used = true
	return true
}

// admit is called with mu held.
func (l *lane) admit(it item) verdict {
	if !l.open {
		return down
	}
	if l.cfg.limits.message > 0 && it.size > l.cfg.limits.message {
		return tooLarge
	}
	if l.window != nil && isAppend(it.m) {
		var v verdict
		if it, v = l.window.checkItem(it, l.clock); v != accepted {
			if v == duplicate {
				l.Duplicate(1)
			}
			return v
		}
	}
	q := l.queueOf(it.m)
	refusal := accepted
	if !q.fits(it.size, &l.cfg.limits) {
		refusal = full
	} else if !l.reservation.Reserve(it.m, it.size, l.heldBytes) {
		refusal = outOfMemory
	}
	if refusal != accepted {
		if l.window != nil && l.window.overflow(it, q) {
			l.withholds = refusal.refusal()
			return withheld
		}
		return refusal
	}
	it.at = l.clock
	q.push(it)
	l.queued++
	l.held++
	l.heldBytes += it.size
	l.used = true
	if it.tracked() {
		if l.window.add(it.m); l.window.closed {
			l.window.open()
		}
	}
	return accepted
}
