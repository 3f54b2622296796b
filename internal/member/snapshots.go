package member

import (
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/internal/loglimit"
)

const (
	// maxSnapshotBackoff bounds how long a report of a failed snapshot is held back, unless
	// Config.SnapshotBackoff is longer.
	maxSnapshotBackoff = time.Minute
	// repeatedSnapshots is how many snapshots in a row fail before the log says what to do.
	repeatedSnapshots = 3
)

// SnapshotReports holds reports of failed snapshots to a member, or to a replica of a group, back, so that raft, which repeats a
// snapshot as soon as it is told, waits longer and longer. Raft takes a report for that of the snapshot that it sent last, so none
// that was held back is made while another snapshot to the same is under way: it comes with the report of that one. A report that is
// held back costs no goroutine. The zero value has none. It is safe for concurrent use, and nothing blocks.
type SnapshotReports struct {
	mu       sync.Mutex
	ended    bool
	running  int         // began, and have not ended
	failures int         // in a row
	held     []error     // that raft is not told of yet
	at       time.Time   // when it is, or was due while one is under way; the zero time while nothing is held back
	timer    *time.Timer // ends the wait until then; nil while there is none
	advice   loglimit.Limiter
}

// SnapshotOwner is who SnapshotReports are for: always the same. No method blocks.
type SnapshotOwner interface {
	// Report has raft told of the end of a snapshot: a failure unless err is nil.
	Report(err error)
	// Repeated is told that snapshots fail again and again, and reports are not held back, for the log.
	Repeated(failures int, err error)
	// Enter counts a goroutine that is joined, until Leave, or returns false at the end.
	Enter() bool
	Leave()
}

// Began notes that so many snapshots are given to something that will call Ended for each, unless End was called.
func (r *SnapshotReports) Began(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running += n
}

// Ended has raft told how one snapshot ended: at once, or a failure after the back-off, of which the first is given, 0 for none.
func (r *SnapshotReports) Ended(o SnapshotOwner, first time.Duration, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running--
	if err == nil {
		r.failures = 0
		r.report(o) // in order
		o.Report(nil)
		return
	}
	r.failures++
	wait := snapshotBackoff(first, r.failures)
	if wait == 0 {
		o.Report(err)
		if r.failures >= repeatedSnapshots && !r.ended && r.advice.Due(time.Now()) {
			o.Repeated(r.failures, err)
		}
		return
	}
	r.held = append(r.held, err)
	if r.timer != nil {
		return
	}
	if r.ended || !o.Enter() {
		r.report(o)
		return
	}
	r.at = time.Now().Add(wait)
	var timer *time.Timer
	timer = time.AfterFunc(wait, func() {
		defer o.Leave()
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.timer == timer {
			r.timer = nil
			r.endHold(o)
		}
	})
	r.timer = timer
}

// snapshotBackoff is how long the report of one of so many failures in a row is held back; first is 0 for none.
func snapshotBackoff(first time.Duration, failures int) time.Duration {
	wait, most := first, max(first, maxSnapshotBackoff)
	for range failures - 1 {
		if wait == 0 || wait == most {
			break
		}
		wait = min(2*wait, most) // most is a year at most
	}
	return wait
}

// endHold ends the wait for the time to report what is held back, and reports it unless a snapshot is under way. It is called with
// mu held.
func (r *SnapshotReports) endHold(o SnapshotOwner) {
	r.stopTimer(o)
	if r.running == 0 || r.ended {
		r.report(o)
	} else if now := time.Now(); r.at.After(now) {
		r.at = now
	}
}

// stopTimer is called with mu held.
func (r *SnapshotReports) stopTimer(o SnapshotOwner) {
	if r.timer != nil && r.timer.Stop() {
		o.Leave()
	}
	r.timer = nil
}

// report is called with mu held.
func (r *SnapshotReports) report(o SnapshotOwner) {
	for _, err := range r.held {
		o.Report(err)
	}
	r.stopTimer(o)
	r.held, r.at = nil, time.Time{}
}

// Hurry ends the back-off, and begins it anew: what made snapshots fail may be over.
func (r *SnapshotReports) Hurry(o SnapshotOwner) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = 0
	r.endHold(o)
}

// End reports what is held back. From now on nothing is.
func (r *SnapshotReports) End(o SnapshotOwner) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	r.endHold(o)
}

// IsIdle reports whether there is nothing to remember.
func (r *SnapshotReports) IsIdle() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.running == 0 && r.failures == 0 && len(r.held) == 0
}

// HeldUntil returns when raft is told of failed snapshots whose reports are held back, or a time in the past if it is once none is
// under way; the zero time: there are none.
func (r *SnapshotReports) HeldUntil() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.at
}

// snapshotOwner is a member as the owner of its SnapshotReports.
type snapshotOwner struct{ *Member }

func (o snapshotOwner) Report(err error) { o.Reports.Snapshot(err) }
func (o snapshotOwner) Leave()           { o.Wait.Done() }
func (o snapshotOwner) Repeated(failures int, err error) {
	o.Log.Warn("raft repeats failed snapshots to the peer at once: remove the cause, and set Transport.SnapshotBackoff",
		zap.Int("failures-in-a-row", failures), zap.Error(err))
}

// SnapshotsBegan notes that so many snapshots to the member are given to something that will call SnapshotEnded for each, unless
// the member has ended. It does not block.
func (m *Member) SnapshotsBegan(n int) { m.snapshots.Began(n) }

// SnapshotEnded has raft told how one snapshot to the member ended: at once, or a failure after the back-off, which ends
// early with the member, with new URLs, with the end of a pause, and when the member becomes active. It does not block.
func (m *Member) SnapshotEnded(err error) {
	m.snapshots.Ended(snapshotOwner{m}, m.Cfg.SnapshotBackoff, err)
}

// HurrySnapshots ends the back-off, and begins it anew: what made snapshots fail may be over.
func (m *Member) HurrySnapshots() { m.snapshots.Hurry(snapshotOwner{m}) }

// SnapshotsHeldUntil is SnapshotReports.HeldUntil.
func (m *Member) SnapshotsHeldUntil() time.Time { return m.snapshots.HeldUntil() }
