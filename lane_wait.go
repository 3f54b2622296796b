package rafthttp

import (
	"context"
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/queue"
)

// offerWait offers items in order and waits for room for as long as the lane's worker
// gets on: until it has released nothing for d, or ctx ends. It returns those that
// were not taken, and why they need not be offered again; nil if the lane is down.
func (l *lane) offerWait(ctx context.Context, items []item, d time.Duration) ([]item, error) {
	emptied := l.emptied.Load()
	rest, v := l.offerAll(items)
	if v == accepted {
		return nil, nil
	}
	patience := time.NewTimer(d)
	defer patience.Stop()
	l.crowded.Add(1)
	defer l.crowded.Add(-1)
	for seen := uint64(0); v == full || v == outOfMemory; rest, v = l.offerAll(rest) {
		room, released := l.roomFor(rest[0], v)
		if released != seen {
			seen = released
			patience.Reset(d)
		}
		select {
		case <-room:
		case <-patience.C:
			if v == outOfMemory {
				return rest, ErrMemoryLimit
			}
			return rest, ErrProcessStalled
		case <-ctx.Done():
			return rest, context.Cause(ctx)
		}
		if l.emptied.Load() != emptied {
			return rest, ErrPaused
		}
	}
	return rest, nil
}

// isCrowded reports whether an offer waits for room.
func (l *lane) isCrowded() bool { return l.crowded.Load() > 0 }

// roomFor returns a channel that is closed when it is worth offering it again, which was
// refused with v, and how often items were released until now.
func (l *lane) roomFor(it item, v verdict) (room <-chan struct{}, released uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.room == nil {
		l.room = make(chan struct{})
	}
	if !l.open || l.queueOf(it.m).fits(it.size, &l.cfg.limits) {
		l.wake()
		c := make(chan struct{})
		if v == outOfMemory { // others have the room
			time.AfterFunc(queue.PollInterval, func() { close(c) })
		} else {
			close(c)
		}
		return c, l.releases
	}
	return l.room, l.releases
}

// wake is called with mu held.
func (l *lane) wake() {
	if l.room != nil {
		close(l.room)
		l.room = nil
	}
}
