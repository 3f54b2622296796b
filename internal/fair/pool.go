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
// place, up to MaxWorkers. So groups whose Process blocks delay the others about once by that time. Workers
// exist only while the pool is in use, see TrimIfIdle.
//
// All methods are safe for concurrent use, and from inside Process. Only OfferWait blocks.
type Pool struct {
	cfg   PoolConfig
	born  time.Time // zero of the clock of the pool
	drops queue.Counters

	waitingOffers atomic.Int32 // offers that wait for room

	mu        sync.Mutex
	closed    bool
	run       runQueue
	free      nodes
	waiting   int // messages that no worker has taken
	held      int // and those that workers have taken
	heldBytes int64
	processed uint64
	bytes     uint64 // of them

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
}

// NewPool returns a pool without workers.
func NewPool(c PoolConfig) *Pool {
	c.MaxWorkers = cmp.Or(c.MaxWorkers, defaultMaxWorkers)
	c.Workers = min(cmp.Or(c.Workers, runtime.GOMAXPROCS(0)), c.MaxWorkers)
	return &Pool{cfg: c, born: time.Now(), more: make(chan struct{}, c.MaxWorkers)}
}

// Name returns the name of the pool.
func (p *Pool) Name() string { return p.cfg.Name }

// Offer queues or refuses a message of an inbox, of this size in memory. A coalesced message takes 1/CoalescedPerPlace of
// a place. If the node's messages wait already the inbox may hold a part of what all of its inboxes leave, see the package.
func (p *Pool) Offer(in *Inbox, m *raftpb.Message, size int64, coalesced bool) queue.Verdict {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.offer(in, m, size, units(coalesced))
}

// offer is called with mu held.
func (p *Pool) offer(in *Inbox, m *raftpb.Message, size int64, units int32) queue.Verdict {
	if p.closed || in.removed {
		return queue.Down
	}
	if v := in.Share.account.accept(&in.held, m, size, units); v != queue.Accepted {
		return v
	}
	in.waiting.push(p.free.get(m, size, units))
	p.waiting++
	p.held++
	p.heldBytes += size
	if in.worker == nil && !in.runnable {
		p.run.push(in)
		p.useWorkers(p.cfg.Workers)
	}
	return queue.Accepted
}

// Remove refuses the messages of an inbox from now on, and returns those that wait. Process is not called for
// it any more, except for a call that runs: the channel is closed once that has returned.
func (p *Pool) Remove(in *Inbox) (left []Received, returned <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	in.removed = true
	w := in.worker
	if left = p.empty(in); w == nil {
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
	if in.runnable {
		p.run.remove(in)
	}
	if w := in.worker; w != nil {
		left = append(left, w.unclaimed()...)
	}
	for in.waiting.first != nil {
		one := in.waiting.pop()
		left = append(left, Received{in, one.msg, one.size, one.units})
		p.free.put(one)
		p.waiting--
	}
	p.release(in, left)
	in.Share.signalRoom() // offers of the inbox end
	return left
}

// release is called with mu held: it makes room for messages of an inbox.
func (p *Pool) release(in *Inbox, msgs []Received) {
	if len(msgs) == 0 {
		return
	}
	for i := range msgs {
		in.Share.account.release(&in.held, msgs[i].Size, msgs[i].units)
		p.heldBytes -= msgs[i].Size
	}
	p.held -= len(msgs)
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
	for p.run.first != nil {
		left = append(left, p.empty(p.run.first)...)
	}
	for _, w := range p.workers {
		if w.in != nil {
			left = append(left, p.empty(w.in)...)
		}
	}
	p.endIdle(p.idle)
	if p.checking && p.timer.Stop() {
		p.checking = false
		p.cfg.Wait.Done()
	}
	return left
}

// TrimIfIdle ends the workers that were idle since the last call, and frees memory that was not needed.
func (p *Pool) TrimIfIdle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free.trim()
	p.endIdle(p.leastIdle)
	p.leastIdle = p.idle
}
