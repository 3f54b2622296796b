package rafthttp

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/queue"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// item is a message in a lane, with the memory it occupies.
type item struct {
	m    *raftpb.Message
	size int64
	at   time.Duration // the lane's clock when it was accepted

	ticket *queue.Ticket // of a sender that waits for the result; nil: none; or windowTracks
}

// windowTracks marks an item that the append window of its lane tracks: nobody
// waits for the result then. A fifth field would keep items out of registers, which costs
// each message more than all that the window does.
var windowTracks = new(queue.Ticket)

func (it item) tracked() bool { return it.ticket == windowTracks }

// withTicket returns the item with the ticket of its sender.
func (it item) withTicket(t *queue.Ticket) item {
	it.ticket = t
	return it
}

// ticketOf returns the ticket of the item; nil if nobody waits for the result.
func (it item) ticketOf() *queue.Ticket {
	if it.tracked() {
		return nil
	}
	return it.ticket
}

func newItem(m *raftpb.Message) item { return item{m: m, size: wire.MemorySize(m)} }

// verdict is a lane's answer to an offer.
type verdict int

const (
	accepted    verdict = iota // the lane has the message now
	full                       // a bound is reached
	outOfMemory                // the bound of all lanes together is reached
	tooLarge                   // the message is larger than any may be
	down                       // the lane has no connection, or is closed
	withheld                   // a bound was reached before; raft is told once the lane has drained
	duplicate                  // the lane has had the entries, and they are under way
)

// refusal returns why a message that got this answer is lost; nil if it is not.
func (v verdict) refusal() error {
	switch v {
	case full:
		return ErrQueueFull
	case outOfMemory:
		return ErrMemoryLimit
	case tooLarge:
		return ErrExceedSizeLimit
	default:
		return nil
	}
}

// laneLimits bounds what a lane holds, queued and in the hands of its workers
// together.
type laneLimits struct {
	messages int
	bytes    int64
	shared   *queue.Budget // of all lanes; nil: none
	message  int64         // of memory for one message; 0: no limit
}

// laneConfig is what a lane is made of.
type laneConfig struct {
	name    string
	limits  laneLimits
	workers int             // how many there are at most
	work    func()          // a worker: takes until take returns nothing, then returns
	wg      *sync.WaitGroup // joins the workers

	// byKind gives each kind of messages a queue of its own, with the bounds of the lane. Control
	// messages are taken first, the other two in turn, about bulkBytes of them at once, so that
	// what comes meanwhile and goes first need not wait for long.
	byKind    bool
	bulkBytes int64

	ended chan<- struct{} // closed once the lane is closed and has no worker; nil: nobody wants to know
}

// lane is a queue of messages, or one for each kind of them, bounded in messages and in bytes, with workers
// that exist only while the lane is in use: they wait for more until whileIdle
// finds nothing used, so that traffic does not pay for a new goroutine and its
// growing stack each time, and an idle lane costs none. An offer either accepts a message or refuses it, in one step under
// one lock; what was accepted leaves through take or drain, in order.
//
// All methods are safe for concurrent use and none blocks but offerWait.
type lane struct {
	cfg  laneConfig
	born time.Time // zero of the lane's clock

	window    *appendWindow // nil: appends are nothing special here; guarded by mu
	withholds error         // the bound that the window's overflow met last; guarded by mu
	onDrained func()        // called without mu when the window says that raft must be told

	overtaken atomic.Pointer[overtaken] // by a snapshot, of what is in a worker's hands; nil: nothing

	emptied atomic.Uint64 // how often empty was called
	taken   uint64        // emptied when the worker took what it holds; owned by the worker of a lane that has one

	queue.Counters

	mu          sync.Mutex
	open        bool              // offers are accepted
	closed      bool              // for good
	queues      []fifo            // one, or one for each kind
	turn        queue.Kind        // which of the kinds that do not go first was taken last
	queued      int               // messages that wait
	held        int               // messages queued or in a worker's hands
	heldBytes   int64             // their size
	reservation queue.Reservation // covers it
	workers     int               // goroutines
	waiting     int               // those of them that wait for more
	more        chan struct{}     // has a value for each that should look again
	kicked      bool              // a worker should look, whatever the queue holds
	spare       []item            // for the next worker's take
	room        chan struct{}     // closed when something is released; nil while nobody waits
	releases    uint64            // how often something was released
	crowded     atomic.Int32      // offers that wait for room
	used        bool              // since the last tidy
	ended       chan<- struct{}   // closed once the lane is closed and has no worker; nil: then, or nobody wants to know

	// clock is read whenever a worker is set to work, at each take that did not wait, and
	// for each offerAll, not for each message: what is accepted meanwhile counts as accepted
	// then, so an age may be too high by the time that one batch takes.
	clock time.Duration
	hands []time.Duration // the oldest of each batch in a worker's hands, in order
}

// newLane returns a lane that is shut.
func newLane(c laneConfig) *lane {
	queues := 1
	if c.byKind {
		queues = int(queue.Kinds)
	}
	return &lane{
		cfg: c, born: time.Now(), queues: make([]fifo, queues), turn: queue.Proposal,
		more: make(chan struct{}, c.workers), reservation: queue.NewReservation(c.limits.shared), ended: c.ended,
	}
}

// trackAppends keeps copies of appends out of the lane: see appendWindow. Raft is to be told by
// onDrained, which may be called by whoever calls the lane, that appends were withheld, and is when nothing
// is acknowledged for timeout. It is called before the lane is used.
func (l *lane) trackAppends(timeout time.Duration, onDrained func()) {
	l.window, l.onDrained = newAppendWindow(timeout), onDrained
}

// queueOf is called with mu held.
func (l *lane) queueOf(m *raftpb.Message) *fifo {
	if len(l.queues) == 1 {
		return &l.queues[0]
	}
	return &l.queues[queue.KindOf(m.GetType())]
}

// appends is called with mu held: it returns the queue that appends wait in.
func (l *lane) appends() *fifo { return &l.queues[min(int(queue.Append), len(l.queues)-1)] }

// next is called with mu held: it returns the queue to take from, and how many bytes, at
// most, so that what comes meanwhile and goes first need not wait for long; 0 is no bound.
func (l *lane) next() (q *fifo, bytes int64) {
	if len(l.queues) == 1 || l.queues[queue.Control].len() > 0 {
		return &l.queues[0], 0
	}
	other := queue.Append + queue.Proposal - l.turn
	if l.queues[other].len() > 0 {
		l.turn = other
	}
	return &l.queues[l.turn], l.cfg.bulkBytes
}

// name is how the log and Status call the lane.
func (l *lane) name() string { return l.cfg.name }

// reopen accepts offers, unless the lane is closed. A new lane is shut.
func (l *lane) reopen() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = !l.closed
	if l.window != nil {
		l.window.reset() // a stream that was replaced is reported
	}
}

func (l *lane) isOpen() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open
}

// holds reports whether the lane holds a message.
func (l *lane) holds() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.held > 0
}

// release says that items are done with, and left is what the same take
// returned behind them.
func (l *lane) release(items, left []item) {
	if len(items) == 0 {
		return
	}
	all, tracked := measure(items)
	l.mu.Lock()
	l.releases++
	q := l.queueOf(items[0].m)
	q.release(all, tracked)
	l.held -= all.messages
	l.heldBytes -= all.bytes
	// An empty lane reserves nothing: a message over the bound is taken once nothing
	// is queued, although others are sent.
	l.reservation.Release(l.heldBytes, l.closed || l.held == 0)
	if i := slices.Index(l.hands, items[0].at); i >= 0 {
		if len(left) > 0 {
			l.hands[i] = left[0].at
		} else {
			l.hands = slices.Delete(l.hands, i, i+1)
		}
	}
	l.wake()
	due := tracked.messages > 0 && l.window.active.Load() && l.window.released(q, time.Since(l.born))
	if tracked.messages < all.messages && l.window != nil && q == l.appends() {
		due = l.window.releasedOthers(q) || due
	}
	l.mu.Unlock()
	if due {
		l.onDrained()
	}
}

// shut refuses offers until the lane is opened again, and returns what was
// queued.
func (l *lane) shut() []item {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = false
	items, _ := l.drain() // whoever shuts the lane reports its end
	return items
}

// empty returns what is queued, and has raft told of what was withheld. A worker is to
// drop what it has not begun with, see wasEmptied, as is who waits for room.
func (l *lane) empty() []item {
	l.mu.Lock()
	l.emptied.Add(1)
	items, owed := l.drain()
	l.mu.Unlock()
	if owed {
		l.onDrained()
	}
	return items
}

// wasEmptied reports whether the lane was emptied since its only worker, the caller, took
// what it holds.
func (l *lane) wasEmptied() bool { return l.emptied.Load() != l.taken }

// drain is called with mu held. If it returns owed raft must be told of appends that were
// withheld, whether or not items are lost as well.
func (l *lane) drain() (items []item, owed bool) {
	for i := range l.queues {
		drained, bytes := l.queues[i].drain()
		items = append(items, drained...)
		l.heldBytes -= bytes
	}
	l.queued = 0
	l.held -= len(items)
	l.reservation.Release(l.heldBytes, true)
	if l.window != nil {
		owed = l.window.empty()
	}
	l.wake()
	return items, owed
}

// close shuts the lane for good and returns what was queued. Workers finish
// what they hold.
func (l *lane) close() []item {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open, l.closed, l.kicked = false, true, false
	l.emptied.Add(1)
	l.dismiss()
	l.tellEnd()
	items, _ := l.drain() // no report is of use any more
	return items
}

// tellEnd is called with mu held.
func (l *lane) tellEnd() {
	if l.closed && l.workers == 0 && l.ended != nil {
		close(l.ended)
		l.ended = nil
	}
}
