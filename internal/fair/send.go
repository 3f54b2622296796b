package fair

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/queue"
)

// Item is a message that was taken from a SendQueue, or that it returns.
type Item struct {
	Flow *Flow
	Msg  *raftpb.Message
	Size int64 // bytes of memory that the message occupies

	coalesced bool
}

// SendConfig is the configuration of a SendQueue.
type SendConfig struct {
	Name   string       // for SendStatus and the log
	Limits queue.Limits // of each kind

	Workers int             // at most
	Work    func()          // a worker: calls Take and Release until Take returns false, then returns
	Wait    *sync.WaitGroup // joins the workers

	// Ended is closed once the queue is closed and has no worker; nil: not reported.
	Ended chan<- struct{}
}

// SendQueue is a bounded queue of messages of many groups for one connection, with workers that exist only while it is in
// use, as those of a queue.Queue.
//
// An offer either accepts a message or refuses it, in one step under one lock. The messages of one
// flow leave in order: by Take, or by Shut, Empty, Close and Remove, which return the queued messages. Control messages
// leave first, then appends and proposals in turn, and within a kind the flows by deficit round robin.
//
// All methods are safe for concurrent use. Only Take blocks.
type SendQueue struct {
	cfg  SendConfig
	born time.Time // zero of the clock of the queue

	emptied atomic.Uint64 // how often Empty and Close were called
	taken   uint64        // emptied when the worker took its items; owned by the worker of a queue that has one

	Counters

	mu        sync.Mutex
	accepting bool // offers are accepted
	closed    bool // permanently
	lanes     [queue.Kinds]lane
	turn      queue.Kind // the kind taken last, of those other than control
	queued    int        // messages that wait
	held      int        // messages queued or held by a worker
	free      nodes
	workers   int           // goroutines
	waiting   int           // those of them that wait for more
	more      chan struct{} // has a value for each one that should look again
	woken     bool          // a worker should look, even if the queue is empty
	spare     []Item        // for the next worker's Take
	used      bool          // since the last TrimIfIdle
	ended     chan<- struct{}

	// now is the clock, which is read by the first offer after which messages wait, and after a Take that leaves some, and not for each
	// message: so an age may be too high by the duration of one batch.
	now   stamp
	hands []hand // of workers
}

// NewSendQueue returns a queue that is shut.
func NewSendQueue(c SendConfig) *SendQueue {
	q := &SendQueue{cfg: c, born: time.Now(), turn: queue.Proposal, more: make(chan struct{}, c.Workers), ended: c.Ended}
	for k := range q.lanes {
		q.lanes[k].account = newAccount(c.Limits)
	}
	return q
}

// Name returns the name of the queue.
func (q *SendQueue) Name() string { return q.cfg.Name }

// Open makes the queue accept offers from now on, unless it is closed.
func (q *SendQueue) Open() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.accepting = !q.closed
}

// IsOpen reports whether the queue accepts offers.
func (q *SendQueue) IsOpen() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.accepting
}

// HasMessages reports whether messages wait, or a worker holds some.
func (q *SendQueue) HasMessages() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.held > 0
}

// Offer queues or refuses a message of a flow, of this size in memory. A coalesced message takes
// 1/CoalescedPerPlace of a place. If messages wait already the flow may hold a part of what all flows of its kind leave, see the package.
func (q *SendQueue) Offer(f *Flow, m *raftpb.Message, size int64, coalesced bool) queue.Verdict {
	o := q.Begin()
	defer o.End()
	return o.Offer(f, m, size, coalesced)
}

// Offers are offers that follow each other: the queue is locked from Begin to End, and then a worker sees all that were accepted. What
// the owner of the queue notes of messages in it may have the same lock.
type Offers struct{ q *SendQueue }

// Begin begins offers. Nothing may be done before End that blocks, takes long, or calls another method of the queue.
func (q *SendQueue) Begin() Offers {
	q.mu.Lock()
	if q.queued == 0 {
		q.now = stampOf(time.Since(q.born))
	}
	return Offers{q}
}

// End ends the offers.
func (o Offers) End() {
	o.q.useWorker()
	o.q.mu.Unlock()
}

// Offer is SendQueue.Offer.
func (o Offers) Offer(f *Flow, m *raftpb.Message, size int64, coalesced bool) queue.Verdict {
	q := o.q
	if !q.accepting {
		return queue.Down
	}
	if f.held.units == 0 {
		f.kind = uint8(queue.KindOf(m.GetType()))
	}
	l := &q.lanes[f.kind]
	if v := l.accept(&f.held, m, size, units(coalesced)); v != queue.Accepted {
		return v
	}
	l.push(f, entry[Flow]{of: f, msg: m, size: size, at: q.now, coalesced: coalesced}, &q.free)
	q.queued++
	q.held++
	q.used = true
	return queue.Accepted
}

// Held is SendQueue.Held.
func (o Offers) Held(f *Flow) queue.Held {
	return queue.Held{Messages: places(f.held.units), Bytes: f.held.bytes}
}

// Held returns what the queue holds of a flow: messages that wait or that a worker has taken.
func (q *SendQueue) Held(f *Flow) queue.Held {
	q.mu.Lock()
	defer q.mu.Unlock()
	return Offers{q}.Held(f)
}

// next is called with mu held, while messages wait: it returns the lane to take from.
func (q *SendQueue) next() (limited bool, _ *lane) {
	if l := &q.lanes[queue.Control]; l.queued > 0 {
		return false, l
	}
	if other := queue.Append + queue.Proposal - q.turn; q.lanes[other].queued > 0 {
		q.turn = other
	}
	return true, &q.lanes[q.turn]
}

// Release makes room for items that a worker has taken and finished: some that follow each other in what Take returned.
func (q *SendQueue) Release(items []Item) {
	if len(items) == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range items {
		it := &items[i]
		q.lanes[it.Flow.kind].release(&it.Flow.held, it.Size, units(it.coalesced))
	}
	last := &items[len(items)-1]
	q.hands = slices.DeleteFunc(q.hands, func(h hand) bool { return h.last == last })
	q.held -= len(items)
	q.settle()
}

// settle is called with mu held.
func (q *SendQueue) settle() {
	for k := range q.lanes {
		q.lanes[k].settle(q.closed)
	}
}

// Shut refuses offers until the queue is opened again, and returns the queued messages.
func (q *SendQueue) Shut() []Item {
	q.mu.Lock()
	q.accepting = false
	all := q.detach()
	q.mu.Unlock()
	return all.items()
}

// Empty returns the queued messages. A worker must drop items that it has not started with, see
// WasEmptied.
func (q *SendQueue) Empty() []Item {
	q.mu.Lock()
	q.emptied.Add(1)
	all := q.detach()
	q.mu.Unlock()
	return all.items()
}

// WasEmptied reports whether the queue was emptied or closed since its only worker, the caller, took its items.
func (q *SendQueue) WasEmptied() bool { return q.emptied.Load() != q.taken }

// Close shuts the queue permanently and returns the queued messages. Workers finish their items.
func (q *SendQueue) Close() []Item {
	q.mu.Lock()
	q.accepting, q.closed, q.woken = false, true, false
	q.emptied.Add(1)
	q.wakeIdle()
	q.signalEnd()
	all := q.detach()
	q.mu.Unlock()
	return all.items()
}

// detach is called with mu held. Its duration depends on the number of flows with messages, and not on that of messages, since
// hundreds of thousands of heartbeats may wait, and Send needs the lock.
func (q *SendQueue) detach() (all detached) {
	for k := range q.lanes {
		for l := &q.lanes[k]; l.ring.n > 0; {
			l.detach(l.ring.head().of, &all, &q.free)
		}
	}
	q.queued -= all.n
	q.held -= all.n
	q.settle()
	return all
}

// Remove returns the queued messages of a flow. Those that a worker has taken count until it releases them.
func (q *SendQueue) Remove(f *Flow) []Item {
	q.mu.Lock()
	var all detached
	l := &q.lanes[f.kind]
	l.detach(f, &all, &q.free)
	q.queued -= all.n
	q.held -= all.n
	l.settle(q.closed)
	q.mu.Unlock()
	return all.items()
}
