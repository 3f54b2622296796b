package rafthttp

import (
	"context"
	"time"
)

// offerWait offers items in order, waiting up to d in all for room. It returns
// those that found none.
func (l *lane) offerWait(ctx context.Context, items []item, d time.Duration) []item {
	var timeout <-chan time.Time
	for {
		rest, v := l.offerAll(items)
		if v != full {
			return rest
		}
		items = rest
		if timeout == nil {
			t := time.NewTimer(d)
			defer t.Stop()
			timeout = t.C
		}
		select {
		case <-l.roomFor(items[0]):
		case <-timeout:
			return items
		case <-ctx.Done():
			return items
		}
	}
}

// roomFor returns a channel that is closed when it is worth offering it again.
func (l *lane) roomFor(it item) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.room == nil {
		l.room = make(chan struct{})
	}
	if !l.open || l.held == 0 || (l.held < l.limits.messages && l.heldBytes+it.size <= l.limits.bytes) {
		l.wake()
		c := make(chan struct{})
		if l.purse.refused { // others have the room
			time.AfterFunc(budgetPoll, func() { close(c) })
		} else {
			close(c)
		}
		return c
	}
	return l.room
}

// wake is called with mu held.
func (l *lane) wake() {
	if l.room != nil {
		close(l.room)
		l.room = nil
	}
}
