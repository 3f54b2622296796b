package fair

import (
	"context"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
)

// OfferWait offers a message as Offer does, and waits for room while Process makes progress with the messages of the same
// inbox, or, if that is empty, of the same Share. If none was released for a few milliseconds, or for twice what Process of the inbox
// took lately, up to 50 ms, or Process has one for as long, it gives up, and the following offers do not wait until one is released:
// so a group whose Process blocks does not stop a stream with the messages of others, whatever it holds. While others come by the Stream s, it waits
// for inboxes whose Process is slow and takes little for a tenth of the time. If the inbox is empty and only memory is short, it waits until nothing of the Share was
// released for d, and the following offers do not wait until something is. The error is ErrQueueFull, ErrMemoryLimit, ErrExceedSizeLimit, ErrPeerRemoved once the inbox is removed, ErrStopped once the pool is
// closed, or the cause of the end of ctx.
func (p *Pool) OfferWait(ctx context.Context, s *Stream, in *Inbox, m *raftpb.Message, size int64, d time.Duration) error {
	o := waitingOffer{by: s, Received: Received{in, m, size, false}, memory: d}
	room, wait, err := p.try(&o)
	if room == nil {
		return err
	}
	p.waitingOffers.Add(1)
	defer p.waitingOffers.Add(-1)
	again := time.NewTimer(wait)
	defer again.Stop()
	for room != nil {
		select {
		case <-room:
		case <-again.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		room, wait, err = p.try(&o)
		again.Reset(wait)
	}
	return err
}

// waitingOffer is an offer that may wait. Its times are by the clock of the pool.
type waitingOffer struct {
	Received
	by     *Stream
	memory time.Duration // how long it waits for that
	began  time.Duration // when it was refused first
	of     progress      // with which it waits
	since  time.Duration // when that has changed last
}

// progress changes whenever that with which an offer waits makes progress.
type progress struct {
	with     int8
	releases uint32
}

// What an offer waits for.
const (
	forInbox  = iota + 1 // that the inbox releases messages
	forShare             // that other inboxes of the Share do
	forMemory            // that any queue does
)

// try offers a message that waits. It should be tried again once room is closed, or after wait; nil: it should not.
func (p *Pool) try(o *waitingOffer) (room <-chan struct{}, wait time.Duration, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	in, s := o.Inbox, o.Inbox.Share
	p.readClock()
	o.by.offered(in, p.clock)
	v := p.accept(o.Received)
	p.useWorkers(p.cfg.Workers)
	clock := time.Since(p.born)
	switch {
	case v == queue.Down && in.removed:
		return nil, 0, errs.ErrPeerRemoved
	case v == queue.Down:
		return nil, 0, errs.ErrStopped
	case v == queue.Full, v == queue.OutOfMemory:
		if wait = o.mayWait(v, clock); wait <= 0 {
			break
		}
		if s.room == nil {
			s.room = make(chan struct{})
		}
		return s.room, wait, v.Err()
	}
	if o.of.with == forInbox {
		o.by.hasWaited(o, v == queue.Accepted, clock)
	}
	return nil, 0, v.Err()
}

// mayWait is called with the lock of the pool held, after an offer was refused: it returns for how long it may wait until it is tried again,
// and notes if what it has waited for stands still.
func (o *waitingOffer) mayWait(why queue.Verdict, clock time.Duration) time.Duration {
	if o.of.with == 0 {
		o.began = clock
	}
	in, s := o.Inbox, o.Inbox.Share
	of, wait, stands := progress{forShare, s.releases}, standsAfter, &s.stands
	switch {
	case in.held.units > 0:
		of, wait, stands = progress{forInbox, in.releases}, in.patience(), &in.stands
	case why == queue.OutOfMemory:
		of.with, wait = forMemory, o.memory
	}
	if of != o.of {
		o.of, o.since = of, clock
	}
	if *stands = *stands || clock-o.since >= wait; *stands {
		return 0
	}
	if of.with == forInbox && in.call(clock) >= wait {
		return 0
	}
	if wait -= clock - o.since; of.with == forInbox {
		wait = min(wait, o.by.mayWait(o, clock))
	}
	if why == queue.OutOfMemory { // other queues have the room
		wait = min(wait, queue.PollInterval)
	}
	return wait
}
