package fair

import (
	"time"
)

// stuckAfter is how long Process may take before PoolStatus counts its group as blocked.
const stuckAfter = time.Second

// PoolStatus is the state of a Pool at one moment.
type PoolStatus struct {
	Name string
	// Waiting counts messages that wait for Process. Held are these and those that Process has, or had a moment ago, HeldBytes
	// their memory.
	Waiting   int
	Held      int
	HeldBytes int64
	// Workers counts workers, Running their calls of Process, Blocked those of them that took longer than a second until
	// now. BlockedFor is how long the longest takes, and BlockedGroup its group; 0: none is blocked.
	Workers, Running, Blocked int
	BlockedFor                time.Duration
	BlockedGroup              uint64
	// Messages and Bytes count messages that were processed, and their memory.
	Messages, Bytes uint64
}

// Status returns the state of the pool. It takes its lock for a moment: about a nanosecond for each inbox with messages.
func (p *Pool) Status() PoolStatus {
	st := PoolStatus{Name: p.cfg.Name}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.noteAges()
	st.Waiting, st.Held, st.HeldBytes = p.waiting, p.held, p.heldBytes
	st.Messages, st.Bytes, st.Workers = p.processed, p.bytes, len(p.workers)
	for _, w := range p.workers {
		if w.n == 0 {
			continue
		}
		st.Running++
		st.Waiting += w.kept - w.calls()
		if took := w.blockedFor(p.clock); took > 0 {
			st.Blocked++
			if in := w.current(); in != nil && took > st.BlockedFor {
				st.BlockedFor, st.BlockedGroup = took, in.Group
			}
		}
	}
	return st
}

// blockedFor returns how long Process has taken until now, by the clock of the pool, if that is too long; otherwise 0. It is called
// with mu held, while the worker has a turn.
func (w *worker) blockedFor(now time.Duration) time.Duration {
	if took := now - time.Duration(w.began.Load()); took > stuckAfter {
		return took
	}
	return 0
}

// InboxStatus returns the memory of the messages of an inbox that wait or are processed, and for how long its call of Process
// has blocked; 0: it has not taken longer than a second.
func (p *Pool) InboxStatus(in *Inbox) (heldBytes int64, blockedFor time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if in.worker != nil && in.worker.current() == in {
		blockedFor = in.worker.blockedFor(time.Since(p.born))
	}
	return in.held.bytes, blockedFor
}

// Running returns the inbox of each call of Process that has not returned.
func (p *Pool) Running() (all []*Inbox) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.workers {
		if w.n > 0 && w.calls() > 0 {
			all = append(all, w.current())
		}
	}
	return all
}

// ShareStatus is the state of a Share.
type ShareStatus struct {
	// Places are those of messages that wait or are being processed, Bytes is their memory.
	Places int
	Bytes  int64
	// OldestAge is how long the oldest of them had waited when Status or TrimIfIdle was called last, too high by at most the duration of
	// a batch. OldSince is since when it has been old, as in queue.Status. Messages of inboxes whose Process blocks have no part in this.
	OldestAge time.Duration
	OldSince  time.Time
	// FullSince is since when the Share is nearly full, see queue.Fullness.
	FullSince time.Time
}

// ShareStatus returns the state of a Share.
func (p *Pool) ShareStatus(s *Share) ShareStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	return ShareStatus{places(s.account.held.units), s.account.held.bytes, s.oldest, s.late.since(p.born), s.account.full.Since()}
}
