// Package receive has the queues in front of Raft.Process: one for each kind of messages of each
// member, for all paths, so that Process gets those of one kind one after another, and a
// Process that blocks on one kind, or for one member, delays no other.
package receive

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/internal/callback"
	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/latency"
	"github.com/seed-4d73690b/rafthttp/internal/member"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
)

// Receiver passes the messages of one receive queue to Process, in order.
type Receiver struct {
	Member  *member.Member
	Queue   *queue.Queue
	failing bool // the last call of Process returned an error; owned by the one worker

	began    atomic.Int64 // when Process was given the first message of a batch, by the clock of the queue, in ns
	among    atomic.Int32 // how many it has been given since then, at most; 0: it has none
	sampleAt time.Time    // when the times of appends are taken next; owned by the worker

	told atomic.Int32 // calls of Observer.Received in progress

	ended <-chan struct{}   // closed once Process is done with all messages of the queue
	after []<-chan struct{} // those of the earlier queues; set before the receiver is used
}

func newReceiver(m *member.Member, k queue.Kind) *Receiver {
	r := &Receiver{Member: m}
	ended := make(chan struct{})
	r.ended = ended
	r.Queue = queue.New(queue.Config{Name: k.String(), Limits: m.Cfg.ReceiveLimits, Workers: 1, Work: r.work, Wait: m.Wait, Ended: ended})
	r.Queue.Open()
	return r
}

// awaitEarlier waits until Process is done with the earlier queues,
// unless this queue has ended: then its successors wait for them.
func (r *Receiver) awaitEarlier() {
	for _, ended := range r.after {
		select {
		case <-ended:
		case <-r.Member.Ctx.Done():
			return
		}
	}
}

func (r *Receiver) work() {
	r.awaitEarlier()
	var items []queue.Item
	for {
		var ok bool
		if items, ok = r.Queue.Take(items, processMessages); !ok {
			return
		}
		for rest := items; len(rest) > 0; {
			n := r.processSome(rest)
			r.Queue.Release(rest[:n], rest[n:])
			rest = rest[n:]
		}
		clear(items)
	}
}

// releaseAfter is how long a queue's worker processes before it makes room, if a
// stream waits for that: Process may be slow.
const releaseAfter = 10 * time.Millisecond

// noteEvery is how many messages of a batch are processed from one note of how many were to the next: a note costs 1 % of a small
// message.
const noteEvery = 8

// processSome processes the first items, all appends or none, and returns their number.
func (r *Receiver) processSome(items []queue.Item) (n int) {
	start := time.Now()
	r.began.Store(int64(r.Queue.Clock(start)))
	defer r.among.Store(0)
	appends := queue.IsAppend(items[0].Msg) // which is not ours afterwards
	sampled := appends && !start.Before(r.sampleAt)
	var under *raftpb.Message
	defer r.Member.Cfg.Guard.RecoverRun(callback.Call{Name: callback.RaftProcess, Peer: r.Member.RemoteID, Lane: r.Queue.Name()}, &under)
	var bytes int64
	others, otherBytes := 0, int64(0) // not processed
	for n < min(len(items), releaseMessages) && bytes < releaseBytes {
		if n > 0 && (queue.IsAppend(items[n].Msg) != appends || r.Queue.HasWaitingOffers() && time.Since(start) > releaseAfter) {
			break
		}
		if r.Queue.WasEmptied() || r.Member.Ctx.Err() != nil || r.Member.Paused.Load() {
			r.Discard(items[n:], cmp.Or(r.Member.Cause(), errs.ErrPaused))
			r.Queue.Done(n-others, uint64(bytes-otherBytes), time.Since(start))
			return len(items)
		}
		if n%noteEvery == 0 {
			r.among.Store(int32(min(n+noteEvery, len(items))))
		}
		under = items[n].Msg
		if !r.processOne(items[n]) {
			others++
			otherBytes += items[n].Size
		}
		bytes += items[n].Size
		n++
	}
	now := time.Now()
	r.Queue.Done(n-others, uint64(bytes-otherBytes), now.Sub(start))
	if sampled && n > others {
		r.sampleAt = now.Add(latency.Every)
		r.Member.Latency.In.Processed(r.Queue.Age(items[0], start), now.Sub(start), n-others, now)
	}
	return n
}

// Processing returns for how long Process has had the messages of a batch, and how many at most, that under way included; 0
// messages: it has none.
func (r *Receiver) Processing(now time.Time) (took time.Duration, messages int) {
	messages = int(r.among.Load()) // first: a batch begins before it is counted
	return r.Queue.Clock(now) - time.Duration(r.began.Load()), messages
}

// processOne is called under guard. It returns false if the message was that of a request
// that has given up.
func (r *Receiver) processOne(it queue.Item) bool {
	if t := it.Ticket(); t != nil {
		return r.processTicket(t, it.Msg)
	}
	err := r.Member.Cfg.ProcessGuarded(r.Member.Ctx, r.Member.RemoteID, r.Queue.Name(), it.Msg)
	if err != nil && !r.failing && r.Member.Ctx.Err() == nil {
		r.Member.Log.Warn("failed to process a raft message; further failures are not logged until one succeeds",
			zap.String("lane", r.Queue.Name()), zap.Error(err))
	}
	r.failing = err != nil
	return true
}

// offer gives items to the queue, and drops those without room. If wait is not 0 it waits
// for room while Process takes messages, and its error is why it gave up: ErrProcessStalled
// if Process took none for that long.
func (r *Receiver) offer(ctx context.Context, items []queue.Item, wait time.Duration) error {
	if f := r.Member.Cfg.Observer.Received; f != nil {
		var bytes int64
		for _, it := range items {
			bytes += it.Size
		}
		r.told.Add(1)
		f(r.Member.RemoteID, r.Queue.Name(), len(items), bytes)
		r.told.Add(-1)
	}
	rest, v := items, queue.Accepted
	var err error
	if wait > 0 {
		rest, err = r.Queue.OfferWait(ctx, rest, wait)
	} else {
		rest, v = r.Queue.OfferAll(rest)
	}
	dropped, noMemory := 0, 0
	for len(rest) > 0 {
		if v == queue.OutOfMemory {
			noMemory++
		} else {
			dropped++
		}
		if rest = rest[1:]; err == nil { // a smaller one may fit
			rest, v = r.Queue.OfferAll(rest)
		}
	}
	if dropped > 0 {
		r.Member.Drop(r.Queue, dropped, cmp.Or(r.Member.Cause(), err, errs.ErrQueueFull))
	}
	if noMemory > 0 {
		r.Member.Drop(r.Queue, noMemory, cmp.Or(r.Member.Cause(), errs.ErrMemoryLimit))
	}
	if errors.Is(err, errs.ErrPaused) { // not the fault of the stream
		return nil
	}
	return err
}

// Close drops the remaining messages, and ends the worker.
func (r *Receiver) Close() {
	r.Discard(r.Queue.Close(), r.Member.Cause())
}

// Receivers are the receive queues of a peer, by kind.
type Receivers [queue.Kinds]*Receiver

// NewReceivers returns the open receive queues of a member.
func NewReceivers(m *member.Member) (all Receivers) {
	for k := range queue.Kinds {
		all[k] = newReceiver(m, k)
	}
	return all
}

// Of returns the queue for a type of messages.
func (r *Receivers) Of(t raftpb.MessageType) *Receiver { return r[queue.KindOf(t)] }

// Calls returns the callbacks of the queues that have not returned, except those of named, which
// are tracked by name. The queues are closed: a worker has each message that they still hold.
func (r *Receivers) Calls(named []callback.Call) (all []callback.Call) {
	slowProcess := func(id types.ID, k queue.Kind) bool {
		return slices.ContainsFunc(named, func(c callback.Call) bool {
			return c.Name == callback.ObserverSlowProcess && c.Peer == id && queue.KindOf(c.Type) == k
		})
	}
	for k, r := range r {
		if r == nil {
			continue // of a guest, which has queues of some kinds only
		}
		if r.Queue.HasMessages() && !slowProcess(r.Member.RemoteID, queue.Kind(k)) {
			all = append(all, callback.Call{Name: callback.RaftProcess, Lane: r.Queue.Name(), Peer: r.Member.RemoteID})
		}
		if r.told.Load() > 0 {
			all = append(all, callback.Call{Name: "Observer.Received", Lane: r.Queue.Name(), Peer: r.Member.RemoteID})
		}
	}
	return all
}

// Receive sorts items into the queues. Appends wait for room, if wait is not 0; the
// error is why there was none.
func (r *Receivers) Receive(ctx context.Context, items []queue.Item, wait time.Duration) (err error) {
	for len(items) > 0 {
		to := r.Of(items[0].Msg.GetType())
		n := 1
		for n < len(items) && r.Of(items[n].Msg.GetType()) == to {
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
