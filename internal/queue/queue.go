package queue

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// Limits are the bounds of a queue: of messages that wait and are in the hands of its workers
// together.
type Limits struct {
	Messages     int
	Bytes        int64   // of memory
	Shared       *Budget // of all queues together; nil: no bound
	MessageBytes int64   // of memory for one message; 0: no bound
}

// Config is what a queue is made of.
type Config struct {
	Name   string // for Status and the log
	Limits Limits

	Workers int             // how many there are at most
	Work    func()          // a worker: calls Take and Release until Take returns false, then returns
	Wait    *sync.WaitGroup // joins the workers

	// ByKind gives each kind of messages a queue of its own, with the bounds of the whole. Control
	// messages are taken first, the other two kinds in turn, about BulkBytes of them at once, so
	// that control messages that come meanwhile need not wait for long.
	ByKind    bool
	BulkBytes int64 // of memory

	// Ended is closed once the queue is closed and has no worker; nil: nobody wants to know.
	Ended chan<- struct{}
}

// Queue is a bounded queue of messages, or one for each kind of them, with workers that exist only
// while the queue is in use. An idle worker waits for more until TrimIfIdle finds that nothing was
// queued, so that traffic does not pay for a new goroutine and its growing stack each time, and an
// idle queue costs no goroutine.
//
// An offer either accepts a message or refuses it, in one step under one lock. Accepted messages
// leave in order: by Take, or by Shut, Empty and Close, which return what is queued.
//
// All methods are safe for concurrent use. None blocks but Take and OfferWait.
type Queue struct {
	cfg  Config
	born time.Time // zero of the clock of the queue

	window    *appendWindow // nil: appends are nothing special here; guarded by mu
	withholds error         // the bound that the window's overflow met last; guarded by mu
	onDrained func()        // called without mu when the window says that raft must be told

	overtaken atomic.Pointer[overtaken] // by a snapshot, of what is in a worker's hands; nil: nothing

	emptied atomic.Uint64 // how often Empty and Close were called
	taken   uint64        // emptied when the worker took what it holds; owned by the worker of a queue that has one

	Counters

	mu            sync.Mutex
	accepting     bool            // offers are accepted
	closed        bool            // for good
	fifos         []fifo          // one, or one for each kind
	turn          Kind            // which of the kinds that do not go first was taken last
	queued        int             // messages that wait
	held          int             // messages queued or in a worker's hands
	heldBytes     int64           // their size
	reservation   Reservation     // covers it
	workers       int             // goroutines
	waiting       int             // those of them that wait for more
	more          chan struct{}   // has a value for each that should look again
	woken         bool            // a worker should look, whatever the queue holds
	spare         []Item          // for the next worker's Take
	room          chan struct{}   // closed when something is released; nil while nobody waits
	releases      uint64          // how often something was released
	waitingOffers atomic.Int32    // offers that wait for room
	used          bool            // since the last TrimIfIdle
	ended         chan<- struct{} // of cfg; nil once it is closed

	// clock is read whenever a worker is set to work, at each Take that did not wait, and
	// for each OfferAll, not for each message: what is accepted meanwhile counts as accepted
	// then, so an age may be too high by the time that one batch takes.
	clock time.Duration
	hands []time.Duration // the oldest of each batch in a worker's hands, in order
}

// New returns a queue that is shut.
func New(c Config) *Queue {
	queues := 1
	if c.ByKind {
		queues = int(Kinds)
	}
	return &Queue{
		cfg: c, born: time.Now(), fifos: make([]fifo, queues), turn: Proposal,
		more: make(chan struct{}, c.Workers), reservation: NewReservation(c.Limits.Shared), ended: c.Ended,
	}
}

// TrackAppends has the queue withhold appends that find no room, and skip copies of appends that
// are under way. It calls onDrained when raft must be told that the peer is unreachable: once the
// queue has drained, when nothing was acknowledged for timeout, and when the queue is emptied
// meanwhile. Methods of the queue call it without a lock; it must not block. TrackAppends is called
// before the queue is used.
func (q *Queue) TrackAppends(timeout time.Duration, onDrained func()) {
	q.window, q.onDrained = newAppendWindow(timeout), onDrained
}

// fifoOf is called with mu held.
func (q *Queue) fifoOf(m *raftpb.Message) *fifo {
	if len(q.fifos) == 1 {
		return &q.fifos[0]
	}
	return &q.fifos[KindOf(m.GetType())]
}

// appends is called with mu held: it returns the one that appends wait in.
func (q *Queue) appends() *fifo { return &q.fifos[min(int(Append), len(q.fifos)-1)] }

// next is called with mu held: it returns what to take from, and how many bytes, at
// most, so that what comes meanwhile and goes first need not wait for long; 0 is no bound.
func (q *Queue) next() (f *fifo, bytes int64) {
	if len(q.fifos) == 1 || q.fifos[Control].len() > 0 {
		return &q.fifos[0], 0
	}
	other := Append + Proposal - q.turn
	if q.fifos[other].len() > 0 {
		q.turn = other
	}
	return &q.fifos[q.turn], q.cfg.BulkBytes
}

// Name returns what Status and the log call the queue.
func (q *Queue) Name() string { return q.cfg.Name }

// Open has the queue accept offers from now on, unless it is closed.
func (q *Queue) Open() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.accepting = !q.closed
	if q.window != nil {
		q.window.reset() // a stream that was replaced is reported
	}
}

// IsOpen reports whether the queue accepts offers.
func (q *Queue) IsOpen() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.accepting
}

// HasMessages reports whether messages wait, or are in the hands of a worker.
func (q *Queue) HasMessages() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.held > 0
}

// Release makes room for items that a worker has taken and is done with. They are of one Take, and
// left is what that Take returned behind them.
func (q *Queue) Release(items, left []Item) {
	if len(items) == 0 {
		return
	}
	all, tracked := measure(items)
	q.mu.Lock()
	q.releases++
	f := q.fifoOf(items[0].Msg)
	f.release(all, tracked)
	q.held -= all.messages
	q.heldBytes -= all.bytes
	// An empty queue reserves nothing: a message over the bound is taken once nothing
	// is queued, although others are sent.
	q.reservation.Release(q.heldBytes, q.closed || q.held == 0)
	if i := slices.Index(q.hands, items[0].at); i >= 0 {
		if len(left) > 0 {
			q.hands[i] = left[0].at
		} else {
			q.hands = slices.Delete(q.hands, i, i+1)
		}
	}
	q.signalRoom()
	due := tracked.messages > 0 && q.window.active.Load() && q.window.released(f, time.Since(q.born))
	if tracked.messages < all.messages && q.window != nil && f == q.appends() {
		due = q.window.releasedOthers(f) || due
	}
	q.mu.Unlock()
	if due {
		q.onDrained()
	}
}

// Shut refuses offers until the queue is opened again, and returns what was queued. What was
// withheld is not told: the caller reports the end of the connection.
func (q *Queue) Shut() []Item {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.accepting = false
	items, _ := q.drain()
	return items
}

// Empty returns what is queued, and has raft told of what was withheld. A worker must
// drop what it has not begun with, see WasEmptied; an OfferWait returns ErrPaused.
func (q *Queue) Empty() []Item {
	q.mu.Lock()
	q.emptied.Add(1)
	items, owed := q.drain()
	q.mu.Unlock()
	if owed {
		q.onDrained()
	}
	return items
}

// WasEmptied reports whether the queue was emptied or closed since its only worker, the caller,
// took what it holds.
func (q *Queue) WasEmptied() bool { return q.emptied.Load() != q.taken }

// drain is called with mu held. If it returns owed raft must be told of appends that were
// withheld, whether or not items are lost as well.
func (q *Queue) drain() (items []Item, owed bool) {
	for i := range q.fifos {
		drained, bytes := q.fifos[i].drain()
		items = append(items, drained...)
		q.heldBytes -= bytes
	}
	q.queued = 0
	q.held -= len(items)
	q.reservation.Release(q.heldBytes, true)
	if q.window != nil {
		owed = q.window.empty()
	}
	q.signalRoom()
	return items, owed
}

// Close shuts the queue for ever and returns what was queued. Workers finish
// what they hold.
func (q *Queue) Close() []Item {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.accepting, q.closed, q.woken = false, true, false
	q.emptied.Add(1)
	q.wakeIdle()
	q.signalEnd()
	items, _ := q.drain() // no report is of use any more
	return items
}

// signalEnd is called with mu held.
func (q *Queue) signalEnd() {
	if q.closed && q.workers == 0 && q.ended != nil {
		close(q.ended)
		q.ended = nil
	}
}
