package queue

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/loglimit"
)

// DropReason is the reason why a message was dropped. The owner of a queue classifies causes.
type DropReason int

// The reasons, and how many there are.
const (
	DropQueueFull    DropReason = iota // a limit of the queue
	DropDisconnected                   // no connection, or a broken one
	DropRefused                        // by the receiver
	DropPaused                         // by the application
	DropEnded                          // the owner of the queue has ended
	DropMemoryLimit                    // the limit of all queues together
	DropTooLarge                       // the message is larger than the limit of one message
	DropLocal                          // the message is not for another member
	DropReasons                        // number of reasons
)

// Drops counts dropped messages by reason.
type Drops [DropReasons]uint64

// Add adds others.
func (d *Drops) Add(others Drops) {
	for why, n := range others {
		d[why] += n
	}
}

// Total returns the sum.
func (d *Drops) Total() (total uint64) {
	for _, n := range d {
		total += n
	}
	return total
}

// NamedDrops are Drops with a field for each reason.
type NamedDrops struct {
	QueueFull, Disconnected, Refused, Paused, Ended, MemoryLimit, TooLarge, Local uint64
}

// Named returns the same with a field for each reason.
func (d Drops) Named() NamedDrops {
	return NamedDrops{
		QueueFull: d[DropQueueFull], Disconnected: d[DropDisconnected], Refused: d[DropRefused], Paused: d[DropPaused],
		Ended: d[DropEnded], MemoryLimit: d[DropMemoryLimit], TooLarge: d[DropTooLarge], Local: d[DropLocal],
	}
}

// Counters are the totals of a queue since it was made. They are safe for concurrent use; the
// zero value is ready.
type Counters struct {
	messages   atomic.Uint64 // written to the network, or handed to Process
	bytes      atomic.Uint64 // the same in bytes: on the wire for senders, in memory for receivers
	batches    atomic.Uint64 // writes or handovers
	busy       atomic.Int64  // nanoseconds spent on them
	drops      [DropReasons]atomic.Uint64
	duplicates atomic.Uint64 // appends that were not queued, or not sent, since their entries are in transit or were in a snapshot
	dropLog    [DropReasons]loglimit.Limiter

	runMu sync.Mutex
	run   DropRun
	last  time.Time // drop of run
}

// DropRun is a run of drops without a pause of DropPause.
type DropRun struct {
	Since time.Time // the zero time: nothing is dropped
	Drops Drops
}

// DropPause is how long nothing is dropped before a run of drops is over.
const DropPause = 10 * time.Second

// Done counts a batch of written or processed messages, and its duration. A batch
// without messages has link heartbeats only: its bytes and time count.
func (c *Counters) Done(messages int, bytes uint64, took time.Duration) {
	c.messages.Add(uint64(messages))
	c.bytes.Add(bytes)
	if messages > 0 {
		c.batches.Add(1)
	}
	c.busy.Add(int64(took))
}

// Drop counts n messages that were not delivered, and returns the number of drops until now for
// all reasons.
func (c *Counters) Drop(n int, why DropReason) (total uint64) {
	c.drops[why].Add(uint64(n))
	c.addToRun(n, why)
	d := c.Dropped()
	return d.Total()
}

func (c *Counters) addToRun(n int, why DropReason) {
	now := time.Now()
	c.runMu.Lock()
	defer c.runMu.Unlock()
	if now.Sub(c.last) >= DropPause {
		c.run = DropRun{Since: now}
	}
	c.last = now
	c.run.Drops[why] += uint64(n)
}

// Dropping returns the run of drops that goes on; the zero value if nothing is dropped.
func (c *Counters) Dropping() DropRun {
	c.runMu.Lock()
	defer c.runMu.Unlock()
	if time.Since(c.last) >= DropPause {
		return DropRun{}
	}
	return c.run
}

// Dropped returns the number of dropped messages, by reason.
func (c *Counters) Dropped() (d Drops) {
	for why := range d {
		d[why] = c.drops[why].Load()
	}
	return d
}

// Bytes returns the bytes of written or processed messages.
func (c *Counters) Bytes() uint64 { return c.bytes.Load() }

// DropLogDue reports whether messages dropped for a reason should be logged now, at most once a
// minute for each reason. It must be called only after a drop.
func (c *Counters) DropLogDue(why DropReason, now time.Time) bool { return c.dropLog[why].Due(now) }
