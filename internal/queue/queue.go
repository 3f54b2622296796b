package queue

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// Limits are the limits of a queue: of messages that wait or that its workers hold,
// together.
type Limits struct {
	Messages     int
	Bytes        int64   // of memory
	Shared       *Budget // of all queues together; nil: no limit
	MessageBytes int64   // of memory for one message; 0: no limit
}

// Config is the configuration of a queue.
type Config struct {
	Name   string // for Status and the log
	Limits Limits

	Workers int             // at most
	Work    func()          // a worker: calls Take and Release until Take returns false, then returns
	Wait    *sync.WaitGroup // joins the workers

	// ByKind gives each kind of messages its own queue, with these limits each. Control
	// messages are taken first, the other two kinds in turn, about BulkBytes of them at a time, so
	// that control messages that arrive meanwhile need not wait long.
	ByKind    bool
	BulkBytes int64 // of memory

	// Ended is closed once the queue is closed and has no worker; nil: not reported.
	Ended chan<- struct{}
}

// Queue is a bounded queue of messages, or one for each kind of them, with workers that exist only
// while the queue is in use. An idle worker waits for more until TrimIfIdle finds that no message was
// queued, so that traffic does not pay for a new goroutine and its growing stack each time, and an
// idle queue costs no goroutine.
//
// An offer either accepts a message or refuses it, in one step under one lock. Accepted messages
// leave in order: by Take, or by Shut, Empty and Close, which return the queued messages.
//
// All methods are safe for concurrent use. Only Take and OfferWait block.
type Queue struct {
	cfg  Config
	born time.Time // zero of the clock of the queue

	window    *appendWindow // nil: appends are not treated specially; guarded by mu
	withholds error         // the limit of the window's last overflow; guarded by mu
	onDrained func()        // called without mu when the window says that raft must be told

	overtaken atomic.Pointer[overtaken] // by a snapshot, of a worker's items; nil: none

	emptied atomic.Uint64 // how often Empty and Close were called
	taken   uint64        // emptied when the worker took its items; owned by the worker of a queue that has one

	Counters

	mu            sync.Mutex
	accepting     bool            // offers are accepted
	closed        bool            // permanently
	fifos         []fifo          // one, or one for each kind
	turn          Kind            // the kind taken last, of those other than control
	queued        int             // messages that wait
	held          int             // messages queued or held by a worker
	heldBytes     int64           // their size
	reservation   Reservation     // for heldBytes
	workers       int             // goroutines
	waiting       int             // those of them that wait for more
	more          chan struct{}   // has a value for each one that should look again
	woken         bool            // a worker should look, even if the queue is empty
	spare         []Item          // for the next worker's Take
	room          chan struct{}   // closed when items are released; nil while no offer waits
	releases      uint64          // number of releases
	waitingOffers atomic.Int32    // offers that wait for room
	used          bool            // since the last TrimIfIdle
	ended         chan<- struct{} // of cfg; nil once it is closed

	// clock is read whenever a worker is woken, at each Take that did not wait, and
	// for each OfferAll, not for each message: messages accepted meanwhile count as accepted
	// then, so an age may be too high by the duration of one batch.
	clock time.Duration
	hands []hand // the oldest of each batch that a worker holds, in order
}

// hand is a message that a worker holds.
type hand struct {
	at       time.Duration // when it was accepted, by the clock of the queue
	late     time.Duration // of its fifo, when it was taken
	isAppend bool
}

func (f *fifo) hand(it Item) hand { return hand{it.at, f.late, IsAppend(it.Msg)} }

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

// TrackAppends makes the queue withhold appends without room, and skip copies of appends
// in transit. It calls onDrained when raft must be told that the peer is unreachable: once the
// queue has drained, when no append was acknowledged for timeout, and when the queue is emptied
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

// appends is called with mu held: it returns the fifo of appends.
func (q *Queue) appends() *fifo { return &q.fifos[min(int(Append), len(q.fifos)-1)] }

// next is called with mu held: it returns the fifo to take from, and how many bytes, at
// most, so that later messages of higher priority need not wait long; 0 is no limit.
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

// Name returns the name of the queue in Status and the log.
func (q *Queue) Name() string { return q.cfg.Name }

// Open makes the queue accept offers from now on, unless it is closed.
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

// HasMessages reports whether messages wait, or a worker holds some.
func (q *Queue) HasMessages() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.held > 0
}

// Release makes room for items that a worker has taken and finished. They are of one Take, and
// left are the items of that Take after them.
func (q *Queue) Release(items, left []Item) {
	if len(items) == 0 {
		return
	}
	all, tracked := measure(items)
	q.mu.Lock()
	q.releases++
	f := q.fifoOf(items[0].Msg)
	f.release(all, tracked)
	f.noteFull(&q.cfg.Limits)
	q.held -= all.messages
	q.heldBytes -= all.bytes
	// An empty queue reserves nothing: a message over the limit is accepted once no other
	// is queued, although others are sent.
	q.reservation.Release(q.heldBytes, q.closed || q.held == 0)
	if i := slices.IndexFunc(q.hands, func(h hand) bool { return h.at == items[0].at }); i >= 0 {
		if len(left) > 0 {
			f.noteAge(items[0].at, time.Since(q.born))
			q.hands[i] = f.hand(left[0])
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

// Shut refuses offers until the queue is opened again, and returns the queued messages. Withheld
// appends are not reported: the caller reports the end of the connection.
func (q *Queue) Shut() []Item {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.accepting = false
	items, _ := q.drain()
	return items
}

// Empty returns the queued messages, and tells raft of withheld appends. A worker must
// drop items that it has not started with, see WasEmptied; an OfferWait returns ErrPaused.
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
// took its items.
func (q *Queue) WasEmptied() bool { return q.emptied.Load() != q.taken }

// drain is called with mu held. If it returns owed raft must be told of withheld
// appends, whether or not items are lost as well.
func (q *Queue) drain() (items []Item, owed bool) {
	for i := range q.fifos {
		drained, bytes := q.fifos[i].drain()
		q.fifos[i].noteFull(&q.cfg.Limits)
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

// Close shuts the queue permanently and returns the queued messages. Workers finish
// their items.
func (q *Queue) Close() []Item {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.accepting, q.closed, q.woken = false, true, false
	q.emptied.Add(1)
	q.wakeIdle()
	q.signalEnd()
	items, _ := q.drain() // a report is useless now
	return items
}

// signalEnd is called with mu held.
func (q *Queue) signalEnd() {
	if q.closed && q.workers == 0 && q.ended != nil {
		close(q.ended)
		q.ended = nil
	}
}
