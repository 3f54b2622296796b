package queue

import (
	"cmp"
	"time"
)

// Old is how old a message is that has waited for too long.
const Old = 2 * time.Second

// Fullness is since when a queue is nearly full: it holds more than one message, which is taken whatever its size, and at least 80 % of a
// limit. The zero value: it is not. It is guarded by the lock of the queue.
type Fullness struct {
	full  bool
	since time.Time
}

// Note is called whenever what the queue holds has changed. used is what it uses of its limit in messages.
func (f *Fullness) Note(messages int, used, limit, bytes, limitBytes int64) {
	// A limit may be too large to be multiplied.
	if full := messages > 1 && (used >= limit-limit/5 || bytes >= limitBytes-limitBytes/5); full != f.full {
		f.change()
	}
}

func (f *Fullness) change() {
	if f.full = !f.full; f.full {
		f.since = time.Now()
	} else {
		f.since = time.Time{}
	}
}

// Since returns the time; the zero time: the queue is not full.
func (f *Fullness) Since() time.Time { return f.since }

// Status is the state of a queue at one moment.
type Status struct {
	Name string
	Open bool // it accepts messages
	// Queued counts messages that wait or that workers hold, QueuedBytes their memory;
	// Capacity and CapacityBytes are the limits. For a queue by kind they are those of the
	// fullest of the three.
	Queued        int
	QueuedBytes   int64
	Capacity      int
	CapacityBytes int64
	// OldestAge is how long the oldest of them has been in the queue, too high by at most the duration
	// of the batch before it.
	OldestAge time.Duration
	// OldSince is since when the oldest message has been old, that is for Old in the queue, without a pause, from when the first of
	// the old ones was accepted; the zero time: it is not old.
	OldSince time.Time
	// FullSince is since when the queue, or the fullest of the three, is nearly full, see Fullness; the zero time: it is not.
	FullSince time.Time
	// OldestAppend is OldestAge if the oldest of them is an append; else 0.
	OldestAppend time.Duration
	// Messages, Bytes, Batches and BusyTime are the totals of Counters.Done.
	Messages, Bytes, Batches uint64
	BusyTime                 time.Duration
	// Duplicates counts appends that were not queued, or not sent, since their entries were in
	// transit, or in a snapshot.
	Duplicates uint64
	Dropped    Drops
	Dropping   DropRun // that goes on
}

// Status returns the state of the queue. It takes its lock for a moment.
func (q *Queue) Status() Status {
	st := Status{
		Name: q.cfg.Name, Capacity: q.cfg.Limits.Messages, CapacityBytes: q.cfg.Limits.Bytes,
		Messages: q.messages.Load(), Bytes: q.bytes.Load(), Batches: q.batches.Load(),
		BusyTime: time.Duration(q.busy.Load()), Duplicates: q.duplicates.Load(), Dropped: q.Dropped(), Dropping: q.Dropping(),
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	st.Open = q.accepting
	fullest := &q.fifos[0]
	now := time.Since(q.born)
	for i := range q.fifos {
		f := &q.fifos[i]
		if f.fill(q.cfg.Limits) > fullest.fill(q.cfg.Limits) {
			fullest = f
		}
		if f.len() > 0 {
			st.age(f.hand(f.oldest()), now, q.born)
		}
	}
	st.Queued, st.QueuedBytes, st.FullSince = fullest.held, fullest.heldBytes, fullest.full.Since()
	if len(q.hands) > 0 {
		st.age(q.hands[0], now, q.born)
	}
	return st
}

// age takes in one of the messages. What workers hold is taken in last, as it is the older of two that are equally old.
func (st *Status) age(h hand, now time.Duration, born time.Time) {
	if age := now - h.at; age >= st.OldestAge {
		st.OldestAge, st.OldestAppend = age, 0
		if h.isAppend {
			st.OldestAppend = age
		}
		if age >= Old {
			st.OldSince = born.Add(cmp.Or(h.late, h.at))
		}
	}
}

// Age returns how long an item that was taken from the queue has been in it until now, too high by at most the time that the
// batch before it took.
func (q *Queue) Age(it Item, now time.Time) time.Duration { return q.Clock(now) - it.at }

// Clock returns what the clock of the queue shows at this time.
func (q *Queue) Clock(now time.Time) time.Duration { return now.Sub(q.born) }
