package rafthttp

import (
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/queue"
)

// status returns the state of the lane.
func (l *lane) status() queue.Status {
	st := queue.Status{
		Name: l.cfg.name, Capacity: l.cfg.limits.messages, CapacityBytes: l.cfg.limits.bytes,
		Bytes: l.Bytes(), Duplicates: l.Duplicates(), Dropped: l.Dropped(),
	}
	st.Messages, st.Batches, st.BusyTime = l.Processed()
	l.mu.Lock()
	defer l.mu.Unlock()
	st.Open = l.open
	fullest := &l.queues[0]
	now := time.Since(l.born)
	for i := range l.queues {
		q := &l.queues[i]
		if q.fill(l.cfg.limits) > fullest.fill(l.cfg.limits) {
			fullest = q
		}
		if q.len() > 0 {
			st.OldestAge = max(st.OldestAge, now-q.oldest())
		}
	}
	st.Queued, st.QueuedBytes = fullest.held, fullest.heldBytes
	if len(l.hands) > 0 {
		st.OldestAge = max(st.OldestAge, now-l.hands[0])
	}
	return st
}
