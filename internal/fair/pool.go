package fair

import (
	"cmp"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/queue"
)

// PoolConfig is the configuration of a Pool.
type PoolConfig struct {
	Name string // for PoolStatus and the log

	// Process gets the messages of an inbox one after another, under no lock. It may block, and must not panic.
	Process func(in *Inbox, m *raftpb.Message, size int64)

	// ReadAhead reads what Process needs for messages of an inbox, under no lock, so that the processor waits for the memory of several at a
	// time. It returns a sum of that. Nil: nothing is read ahead.
	ReadAhead func(in *Inbox) uint64

	// Workers is how many calls of Process run at a time as long as they do not block; 0: GOMAXPROCS. MaxWorkers is how
	// many run at most; 0: 256.
	Workers, MaxWorkers int

	Wait *sync.WaitGroup // joins the workers
}

const defaultMaxWorkers = 256

// Pool gives received messages of one kind to Process on a bounded number of workers, in order within each inbox. The
// inboxes with messages have turns of a few messages each.
//
// A worker whose Process has not returned for a millisecond does not count, while messages wait: another one takes its
// place, up to MaxWorkers. So groups whose Process blocks delay the others about once by that time. A worker takes messages of
// several inboxes at a time, and those that it has not begun with wait for others again once a call blocks or the turn takes long.
// Workers exist only while the pool is in use, see TrimIfIdle.
//
// All methods are safe for concurrent use, and from inside Process. Only OfferWait blocks.
type Pool struct {
	cfg  PoolConfig
	born time.Time // zero of the clock of the pool

	waitingOffers atomic.Int32 // offers that wait for room

	mu        sync.Mutex
	closed    bool
	run       ring[Inbox] // whose messages wait for a worker: so Process gets the messages of an inbox one after another
	free      nodes
	waiting   int // messages that no worker has taken
	held      int // and those that workers have taken
	heldBytes int64
	processed uint64
	bytes     uint64   // of them
	waited    []*Share // those with messages that had waited when noteAges was called last

	workers   []*worker
	running   int           // workers that are not idle and not blocked, including starting ones
	idle      int           // workers that wait on more
	leastIdle int           // since the last TrimIfIdle
	starting  int           // workers that were woken or added, and have not looked yet
	ending    int           // workers that were woken to end, and have not looked yet
	more      chan struct{} // has a value for each worker that was woken

	checking bool        // a check is due
	timer    *time.Timer // of checks; nil before the first
	clock    time.Duration
	stood    time.Duration // when a check has found last that all workers are blocked
}

// NewPool returns a pool without workers.
func NewPool(c PoolConfig) *Pool {
	c.MaxWorkers = cmp.Or(c.MaxWorkers, defaultMaxWorkers)
	c.Workers = min(cmp.Or(c.Workers, runtime.GOMAXPROCS(0)), c.MaxWorkers)
	return &Pool{cfg: c, born: time.Now(), more: make(chan struct{}, c.MaxWorkers), stood: -time.Hour}
}

// Name returns the name of the pool.
func (p *Pool) Name() string { return p.cfg.Name }

// Offer queues or refuses a message of an inbox, of this size in memory. A coalesced message takes 1/CoalescedPerPlace of
// a place. If the node's messages wait already the inbox may hold a part of what all of its inboxes leave, see the package.
func (p *Pool) Offer(in *Inbox, m *raftpb.Message, size int64, coalesced bool) queue.Verdict {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.readClock()
	v := p.accept(Received{in, m, size, coalesced})
	p.useWorkers(p.cfg.Workers)
	return v
}

// OfferAll offers messages in order, which s has brought, and returns how many were accepted before the first refused one, if any, with
// the verdict on that one. Workers see all accepted ones at once.
func (p *Pool) OfferAll(s *Stream, all []Received) (n int, v queue.Verdict) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.readClock()
	for ; n < len(all) && v == queue.Accepted; n++ {
		s.offered(all[n].Inbox, p.clock)
		if v = p.accept(all[n]); v != queue.Accepted {
			break
		}
	}
	p.useWorkers(p.cfg.Workers)
	return n, v
}

// readClock is called with mu held, before offers: it reads the clock, unless inboxes wait and a check of workers is due, which has just read it, or reads it
// soon. There is none while as many workers as there may be exist, and not all of them run.
func (p *Pool) readClock() {
	if p.run.n == 0 || !p.checking {
		p.clock = time.Since(p.born)
	}
}

// accept is called with mu held, after readClock: it queues or refuses a message. useWorkers must follow.
func (p *Pool) accept(one Received) queue.Verdict {
	in := one.Inbox
	if p.closed || in.removed {
		return queue.Down
	}
	if v := in.Share.account.accept(&in.held, one.Msg, one.Size, units(one.Coalesced)); v != queue.Accepted {
		return v
	}
	p.waiting++
	p.held++
	p.heldBytes += one.Size
	if in.worker == nil && !in.runnable {
		in.runnable = true
		p.run.push(entry[Inbox]{of: in, msg: one.Msg, size: one.Size, at: stampOf(p.clock), coalesced: one.Coalesced})
	} else {
		in.more.push(p.free.get(one.Msg, one.Size, stampOf(p.clock), one.Coalesced))
	}
	return queue.Accepted
}

// requeue is called with mu held: it makes an inbox that has no worker wait for one, if it has messages.
func (p *Pool) requeue(in *Inbox, push func(*ring[Inbox], entry[Inbox])) {
	if in.more.last == nil {
		return
	}
	one := in.more.pop()
	in.runnable = true
	push(&p.run, entry[Inbox]{of: in, msg: one.msg, size: one.size, at: one.at, coalesced: one.coalesced})
	p.free.put(one)
}

// Remove refuses the messages of an inbox from now on, and returns those that wait. Process is not called for
// it any more, except for a call that runs: the channel is closed once that has returned.
func (p *Pool) Remove(in *Inbox) (left []Received, returned <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	in.removed = true
	w := in.worker
	left = p.empty(in)
	p.useWorkers(p.cfg.Workers)
	if w == nil || w.current() != in {
		none := make(chan struct{})
		close(none)
		return left, none
	}
	if w.returned == nil {
		w.returned = make(chan struct{})
	}
	return left, w.returned
}

// empty is called with mu held: it returns the messages of an inbox that Process did not get yet.
func (p *Pool) empty(in *Inbox) (left []Received) {
	if w := in.worker; w != nil {
		left = p.takeBack(w, in)
	}
	if in.runnable {
		in.runnable = false
		e, _ := p.run.remove(in)
		left = append(left, Received{in, e.msg, e.size, e.coalesced})
		p.waiting--
	}
	for in.more.last != nil {
		one := in.more.pop()
		left = append(left, Received{in, one.msg, one.size, one.coalesced})
		p.free.put(one)
		p.waiting--
	}
	if len(left) > 0 {
		for i := range left {
			p.release(&left[i])
		}
		p.released(in)
	}
	in.Share.signalRoom() // offers of the inbox end
	return left
}

// release is called with mu held: it makes room for a message. The caller calls released after the last one of an inbox.
func (p *Pool) release(one *Received) {
	one.Inbox.Share.account.release(&one.Inbox.held, one.Size, units(one.Coalesced))
	p.heldBytes -= one.Size
	p.held--
}

func (p *Pool) released(in *Inbox) {
	in.releases++
	in.stands = false
	in.Share.settle(p.closed)
}

// Close refuses messages from now on, and returns those that Process did not get. Calls of Process go on.
func (p *Pool) Close() (left []Received) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	for _, w := range p.workers {
		p.takeBack(w, nil)
		for i := range w.batch[:w.kept] {
			left = append(left, p.empty(w.batch[i].Inbox)...)
		}
	}
	for p.run.n > 0 {
		left = append(left, p.empty(p.run.head().of)...)
	}
	p.endIdle(p.idle)
	if p.checking && p.timer.Stop() {
		p.checking = false
		p.cfg.Wait.Done()
	}
	return left
}

// TrimIfIdle notes ages, ends the workers that were idle since the last call, and frees memory that was not needed.
func (p *Pool) TrimIfIdle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.noteAges()
	p.free.trim()
	p.run.trim()
	p.endIdle(p.leastIdle)
	p.leastIdle = p.idle
}
