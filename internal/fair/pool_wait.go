package fair

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
)

// ErrRemoved means that the inbox of a message was removed.
var ErrRemoved = errors.New("rafthttp: raft group removed")

// OfferWait offers a message as Offer does, and waits for room while Process makes progress with the messages of the
// same Share: until it has released none for d, or ctx ends. It does not wait if the inbox itself holds as much as each
// of the inboxes in use may, so that a group whose Process blocks does not stop a stream with the messages of
// others. The error is ErrQueueFull, ErrMemoryLimit, ErrExceedSizeLimit, ErrProcessStalled, ErrRemoved, ErrStopped once
// the pool is closed, or the cause of the end of ctx.
func (p *Pool) OfferWait(ctx context.Context, in *Inbox, m *raftpb.Message, size int64, d time.Duration) error {
	try := p.tryOffer(in, m, size)
	if try.room == nil {
		return try.err
	}
	patience := time.NewTimer(d)
	defer patience.Stop()
	p.waitingOffers.Add(1)
	defer p.waitingOffers.Add(-1)
	for seen := try.releases; ; {
		if try = p.tryOffer(in, m, size); try.room == nil {
			return try.err
		}
		if try.releases != seen {
			seen = try.releases
			patience.Reset(d)
		}
		var poll <-chan time.Time
		if errors.Is(try.err, errs.ErrMemoryLimit) { // other queues have the room
			poll = time.After(queue.PollInterval)
		}
		select {
		case <-try.room:
		case <-poll:
		case <-patience.C:
			if poll != nil {
				return try.err
			}
			return errs.ErrProcessStalled
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// try is the result of an offer that may wait.
type try struct {
	err      error
	room     <-chan struct{} // closed when it should be tried again; nil: it should not
	releases uint64          // of the share until now
}

func (p *Pool) tryOffer(in *Inbox, m *raftpb.Message, size int64) try {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := in.Share
	v := p.offer(in, m, size, CoalescedPerPlace)
	t := try{err: v.Err(), releases: s.releases}
	switch {
	case v == queue.Down && in.removed:
		t.err = ErrRemoved
	case v == queue.Down:
		t.err = errs.ErrStopped
	case v == queue.Full && !s.account.isOverShare(&in.held), v == queue.OutOfMemory && in.held.units == 0:
		if s.room == nil {
			s.room = make(chan struct{})
		}
		t.room = s.room
	}
	return t
}
