package queue

import (
	"context"
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/errs"
)

// OfferWait offers items in order and waits for room for as long as the worker makes progress:
// until it has released none for d, or ctx ends. It returns the items that were not
// accepted, with the reason: ErrProcessStalled, ErrMemoryLimit, ErrPaused once the queue was
// emptied, or the cause of the end of ctx. The error is nil if the queue is down.
func (q *Queue) OfferWait(ctx context.Context, items []Item, d time.Duration) ([]Item, error) {
	emptied := q.emptied.Load()
	rest, v := q.OfferAll(items)
	if v == Accepted {
		return nil, nil
	}
	patience := time.NewTimer(d)
	defer patience.Stop()
	q.waitingOffers.Add(1)
	defer q.waitingOffers.Add(-1)
	for seen := uint64(0); v == Full || v == OutOfMemory; rest, v = q.OfferAll(rest) {
		room, released := q.roomFor(rest[0], v)
		if released != seen {
			seen = released
			patience.Reset(d)
		}
		select {
		case <-room:
		case <-patience.C:
			if v == OutOfMemory {
				return rest, errs.ErrMemoryLimit
			}
			return rest, errs.ErrProcessStalled
		case <-ctx.Done():
			return rest, context.Cause(ctx)
		}
		if q.emptied.Load() != emptied {
			return rest, errs.ErrPaused
		}
	}
	return rest, nil
}

// HasWaitingOffers reports whether an offer waits for room.
func (q *Queue) HasWaitingOffers() bool { return q.waitingOffers.Load() > 0 }

// roomFor returns a channel that is closed when it should be offered again, after it was
// refused with v, and the number of releases until now.
func (q *Queue) roomFor(it Item, v Verdict) (room <-chan struct{}, released uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.room == nil {
		q.room = make(chan struct{})
	}
	if !q.accepting || q.fifoOf(it.Msg).fits(it.Size, &q.cfg.Limits) {
		q.signalRoom()
		c := make(chan struct{})
		if v == OutOfMemory { // other queues have the room
			time.AfterFunc(PollInterval, func() { close(c) })
		} else {
			close(c)
		}
		return c, q.releases
	}
	return q.room, q.releases
}

// signalRoom is called with mu held.
func (q *Queue) signalRoom() {
	if q.room != nil {
		close(q.room)
		q.room = nil
	}
}
