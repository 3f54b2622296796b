package fair

import (
	"sync/atomic"
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/queue"
)

// Counters are the totals of a queue since it was made. They are safe for concurrent use; the zero value is ready.
type Counters struct {
	drops    queue.Counters // its counts of dropped messages only
	messages atomic.Uint64
	bytes    atomic.Uint64
	batches  atomic.Uint64
	busy     atomic.Int64 // nanoseconds
}

// Done counts a batch of messages that were sent, its bytes on the wire, and its duration. A batch without messages has link
// heartbeats only: its bytes and time count.
func (c *Counters) Done(messages int, bytes uint64, took time.Duration) {
	c.messages.Add(uint64(messages))
	c.bytes.Add(bytes)
	if messages > 0 {
		c.batches.Add(1)
	}
	c.busy.Add(int64(took))
}

// Drop counts n messages that were not delivered, and returns the number of drops until now for all reasons.
func (c *Counters) Drop(n int, why queue.DropReason) (total uint64) { return c.drops.Drop(n, why) }

// Dropped returns the number of dropped messages, by reason.
func (c *Counters) Dropped() queue.Drops { return c.drops.Dropped() }

// Dropping returns the run of drops that goes on; the zero value if nothing is dropped.
func (c *Counters) Dropping() queue.DropRun { return c.drops.Dropping() }

// DropLogDue reports whether messages dropped for a reason should be logged now, at most once a minute for
// each reason. It must be called only after a drop.
func (c *Counters) DropLogDue(why queue.DropReason, now time.Time) bool {
	return c.drops.DropLogDue(why, now)
}

// SendStatus is the state of a SendQueue at one moment.
type SendStatus struct {
	Name string
	Open bool // it accepts messages
	// Queued are the places of messages that wait or that workers hold, QueuedBytes is their memory, and Flows are the flows that they
	// are of, by kind.
	Queued      [queue.Kinds]int
	QueuedBytes [queue.Kinds]int64
	Flows       [queue.Kinds]int
	// FullSince is since when each kind is nearly full, see queue.Fullness.
	FullSince [queue.Kinds]time.Time
	// Capacity and CapacityBytes are the limits of each kind.
	Capacity      int
	CapacityBytes int64
	// OldestAge is how long the oldest of them has been in the queue, too high by at most the duration of the batch before it. OldSince
	// is since when it has been old, as in queue.Status, by a look whenever Status or TrimIfIdle is called.
	OldestAge time.Duration
	OldSince  time.Time
	// Messages, Bytes, Batches and BusyTime are the totals of Counters.Done.
	Messages, Bytes, Batches uint64
	BusyTime                 time.Duration
	Dropped                  queue.Drops
	Dropping                 queue.DropRun // that goes on
}

// Add adds the state of a queue with the same limits.
func (st *SendStatus) Add(o SendStatus) {
	for k := range st.Queued {
		st.Queued[k] += o.Queued[k]
		st.QueuedBytes[k] += o.QueuedBytes[k]
		st.Flows[k] += o.Flows[k]
		st.FullSince[k] = earlier(st.FullSince[k], o.FullSince[k])
	}
	st.Messages, st.Bytes, st.Batches, st.BusyTime = st.Messages+o.Messages, st.Bytes+o.Bytes, st.Batches+o.Batches, st.BusyTime+o.BusyTime
	if o.OldestAge > st.OldestAge {
		st.OldestAge, st.OldSince = o.OldestAge, o.OldSince
	}
	st.Dropped.Add(o.Dropped)
	st.Dropping.Drops.Add(o.Dropping.Drops)
	st.Dropping.Since = earlier(st.Dropping.Since, o.Dropping.Since)
}

// earlier returns the earlier one of two times, or the other one if one is the zero time.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// Status returns the state of the queue. It takes its lock for a moment: about a nanosecond for each flow with messages.
func (q *SendQueue) Status() SendStatus {
	st := SendStatus{
		Name: q.cfg.Name, Capacity: q.cfg.Limits.Messages, CapacityBytes: q.cfg.Limits.Bytes,
		Messages: q.messages.Load(), Bytes: q.bytes.Load(), Batches: q.batches.Load(), BusyTime: time.Duration(q.busy.Load()),
		Dropped: q.Dropped(), Dropping: q.Dropping(),
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	st.Open = q.accepting
	st.OldestAge, st.OldSince = q.noteAges()
	for k := range q.lanes {
		l := &q.lanes[k]
		st.Queued[k], st.QueuedBytes[k], st.Flows[k], st.FullSince[k] = places(l.held.units), l.held.bytes, l.flows, l.full.Since()
	}
	return st
}
