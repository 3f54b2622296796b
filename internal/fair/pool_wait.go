package fair

import (
	"cmp"
	"context"
	"errors"
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
func (p *Pool) OfferWait(ctx context.Context, s *Stream, in *Inbox, m *raftpb.Message, size int64, d time.Duration) (err error) {
	try := p.tryOffer(s, in, m, size, 0)
	if try.room == nil {
		return try.err
	}
	began := time.Now()
	if try.of == forInbox {
		defer func() { p.hasWaited(s, in, size, err, time.Since(began)) }()
	}
	patience := time.NewTimer(d)
	defer patience.Stop()
	p.waitingOffers.Add(1)
	defer p.waitingOffers.Add(-1)
	may := d // for how long it waits for the progress after seen
	for seen := (progress{}); ; {
		if try = p.tryOffer(s, in, m, size, time.Since(began)); try.room == nil {
			return try.err
		}
		if try.progress != seen {
			seen = try.progress
			may = cmp.Or(try.patience, d)
			patience.Reset(may)
		}
		var poll <-chan time.Time
		if errors.Is(try.err, errs.ErrMemoryLimit) { // other queues have the room
			poll = time.After(queue.PollInterval)
		}
		select {
		case <-try.room:
		case <-poll:
		case <-patience.C:
			if p.giveUp(in, seen, may) {
				return try.err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// What an offer waits for.
const (
	forInbox  = iota + 1 // that the inbox releases messages
	forShare             // that other inboxes of the Share do
	forMemory            // that any queue does
)

// progress changes whenever that with which an offer waits makes progress.
type progress struct {
	of       int8
	releases uint32
}

// try is the result of an offer that may wait.
type try struct {
	err  error
	room <-chan struct{} // closed when it should be tried again; nil: it should not
	progress
	patience time.Duration // with the progress; 0: that of the offer
}

// hasWaited notes for how long an offer of a Stream has waited for an inbox, with this result.
func (p *Pool) hasWaited(s *Stream, in *Inbox, size int64, err error, waited time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		size = 0
	}
	s.hasWaited(in, size, waited, time.Since(p.born))
}

// tryOffer offers a message that has waited.
func (p *Pool) tryOffer(by *Stream, in *Inbox, m *raftpb.Message, size int64, waited time.Duration) try {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := in.Share
	p.readClock()
	by.offered(in, p.clock)
	v := p.accept(Received{in, m, size, false})
	p.useWorkers(p.cfg.Workers)
	t := try{err: v.Err()}
	switch {
	case v == queue.Down && in.removed:
		t.err = errs.ErrPeerRemoved
	case v == queue.Down:
		t.err = errs.ErrStopped
	case v == queue.Full, v == queue.OutOfMemory:
		var stands bool
		clock := time.Since(p.born)
		if t.progress, stands = in.progress(v, clock); stands {
			break
		}
		if t.of == forInbox {
			if t.patience = min(in.patience(), by.mayWait(in, size, waited, clock)); t.patience <= 0 {
				break
			}
		}
		if s.room == nil {
			s.room = make(chan struct{})
		}
		t.room = s.room
		if t.of == forShare {
			t.patience = standsAfter
		}
	}
	return t
}

// progress is called with the lock of the pool held: it returns what an offer that was refused may wait for, and whether that
// stands still.
func (in *Inbox) progress(why queue.Verdict, clock time.Duration) (_ progress, stands bool) {
	switch {
	case in.held.units > 0:
		took, _ := in.call(clock)
		return progress{forInbox, in.releases}, in.stands || took >= in.patience()
	case why == queue.OutOfMemory:
		return progress{forMemory, in.Share.releases}, in.Share.stands
	default:
		return progress{forShare, in.Share.releases}, in.Share.stands
	}
}

// giveUp notes that what an offer waits for stands still, unless it has waited for less than an inbox needs, for the sake of others. It
// returns false if it has made progress meanwhile.
func (p *Pool) giveUp(in *Inbox, seen progress, waited time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch seen.of {
	case forInbox:
		if in.releases != seen.releases {
			return false
		}
		in.stands = waited >= in.patience()
	case forShare, forMemory:
		if in.Share.releases != seen.releases {
			return false
		}
		in.Share.stands = true
	}
	return true
}
