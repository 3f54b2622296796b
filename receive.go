package rafthttp

import (
	"cmp"
	"context"
	"errors"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/internal/callback"
	"github.com/seed-4d73690b/rafthttp/internal/member"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
)

// receiver hands the messages of one receive queue to Process, in order.
type receiver struct {
	member  *member.Member
	queue   *queue.Queue
	failing bool // Process returned an error last; owned by the one worker

	told atomic.Int32 // calls of Observer.Received under way

	ended <-chan struct{}   // closed once Process will have nothing of the queue any more
	after []<-chan struct{} // those of the queues before this one; set before it is used
}

func newReceiver(l *member.Member, k queue.Kind) *receiver {
	r := &receiver{member: l}
	ended := make(chan struct{})
	r.ended = ended
	r.queue = queue.New(queue.Config{Name: k.String(), Limits: l.Cfg.ReceiveLimits, Workers: 1, Work: r.work, Wait: l.Wait, Ended: ended})
	r.queue.Open()
	return r
}

// awaitEarlier waits until Process has nothing any more of the queues before this one,
// unless that is for others to find out, since this one has ended itself.
func (r *receiver) awaitEarlier() {
	for _, ended := range r.after {
		select {
		case <-ended:
		case <-r.member.Ctx.Done():
			return
		}
	}
}

func (r *receiver) work() {
	r.awaitEarlier()
	var items []queue.Item
	for {
		var ok bool
		if items, ok = r.queue.Take(items, processMessages); !ok {
			return
		}
		for rest := items; len(rest) > 0; {
			n := r.processSome(rest)
			r.queue.Release(rest[:n], rest[n:])
			rest = rest[n:]
		}
		clear(items)
	}
}

// releaseAfter is for how long a queue's worker processes before it makes room, if a
// stream waits for that: Process may be slow.
const releaseAfter = 10 * time.Millisecond

// processSome processes the first items, and returns how many.
func (r *receiver) processSome(items []queue.Item) (n int) {
	start := time.Now()
	var under *raftpb.Message
	defer r.member.Cfg.Guard.RecoverRun(callback.Call{Name: callback.RaftProcess, Peer: r.member.RemoteID, Lane: r.queue.Name()}, &under)
	var bytes int64
	others, otherBytes := 0, int64(0) // that were not processed
	for n < min(len(items), releaseMessages) && bytes < releaseBytes {
		if n > 0 && r.queue.HasWaitingOffers() && time.Since(start) > releaseAfter {
			break
		}
		if r.queue.WasEmptied() || r.member.Ctx.Err() != nil || r.member.Paused.Load() {
			r.discard(items[n:], cmp.Or(r.member.Cause(), ErrPaused))
			r.queue.Done(n-others, uint64(bytes-otherBytes), time.Since(start))
			return len(items)
		}
		under = items[n].Msg
		if !r.processOne(items[n]) {
			others++
			otherBytes += items[n].Size
		}
		bytes += items[n].Size
		n++
	}
	r.queue.Done(n-others, uint64(bytes-otherBytes), time.Since(start))
	return n
}

// processOne is called under guard. It reports false if the message was that of a request
// that has given up.
func (r *receiver) processOne(it queue.Item) bool {
	if t := it.Ticket(); t != nil {
		return r.processTicket(t, it.Msg)
	}
	err := r.member.Cfg.ProcessGuarded(r.member.Ctx, r.member.RemoteID, r.queue.Name(), it.Msg)
	if err != nil && !r.failing && r.member.Ctx.Err() == nil {
		r.member.Log.Warn("failed to process a raft message; further failures are not logged until one succeeds",
			zap.String("lane", r.queue.Name()), zap.Error(err))
	}
	r.failing = err != nil
	return true
}

// offer gives items to the queue, and drops what finds no room. If wait is not 0 it waits
// for room while Process takes messages, and its error is why it gave up: ErrProcessStalled
// if Process took none for that long.
func (r *receiver) offer(ctx context.Context, items []queue.Item, wait time.Duration) error {
	if f := r.member.Cfg.Observer.Received; f != nil {
		var bytes int64
		for _, it := range items {
			bytes += it.Size
		}
		r.told.Add(1)
		f(r.member.RemoteID, r.queue.Name(), len(items), bytes)
		r.told.Add(-1)
	}
	rest, v := items, queue.Accepted
	var err error
	if wait > 0 {
		rest, err = r.queue.OfferWait(ctx, rest, wait)
	} else {
		rest, v = r.queue.OfferAll(rest)
	}
	dropped, noMemory := 0, 0
	for len(rest) > 0 {
		if v == queue.OutOfMemory {
			noMemory++
		} else {
			dropped++
		}
		if rest = rest[1:]; err == nil { // a smaller one may find room where this one did not
			rest, v = r.queue.OfferAll(rest)
		}
	}
	if dropped > 0 {
		r.member.Drop(r.queue, dropped, cmp.Or(r.member.Cause(), err, ErrQueueFull))
	}
	if noMemory > 0 {
		r.member.Drop(r.queue, noMemory, cmp.Or(r.member.Cause(), ErrMemoryLimit))
	}
	if errors.Is(err, ErrPaused) { // the stream is not to blame
		return nil
	}
	return err
}

func (r *receiver) close() {
	r.discard(r.queue.Close(), r.member.Cause())
}

// receivers are the receive queues of a peer, by kind.
type receivers [queue.Kinds]*receiver

func newReceivers(l *member.Member) (all receivers) {
	for k := range queue.Kinds {
		all[k] = newReceiver(l, k)
	}
	return all
}

func (r *receivers) of(t raftpb.MessageType) *receiver { return r[queue.KindOf(t)] }

// receive sorts items into the queues. Appends wait for room, if wait is not 0; the
// error is why that was in vain.
func (r *receivers) receive(ctx context.Context, items []queue.Item, wait time.Duration) (err error) {
	for len(items) > 0 {
		to := r.of(items[0].Msg.GetType())
		n := 1
		for n < len(items) && r.of(items[n].Msg.GetType()) == to {
			n++
		}
		patience := time.Duration(0)
		if to == r[queue.Append] && err == nil {
			patience = wait
		}
		err = cmp.Or(err, to.offer(ctx, items[:n], patience))
		items = items[n:]
	}
	return err
}
