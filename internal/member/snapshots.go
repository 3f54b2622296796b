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

// snapshotReports holds reports of failed snapshots back, so that raft, which repeats a snapshot as soon as it is told, waits
// longer and longer. Raft takes a report for that of the snapshot that it sent last, so none that was held back is made while
// another snapshot to the member is under way: it comes with the report of that one.
type snapshotReports struct {
	mu       sync.Mutex
	running  int           // began, and have not ended
	failures int           // in a row
	held     []error       // that raft is not told of yet
	at       time.Time     // when it is, or was due while one is under way; the zero time while nothing is held back
	hurry    chan struct{} // closed to end the wait until then; nil while there is none
	advice   loglimit.Limiter
}

// SnapshotsBegan notes that so many snapshots to the member are given to something that will call SnapshotEnded for each, unless
// the member has ended. It does not block.
func (m *Member) SnapshotsBegan(n int) {
	m.snapshots.mu.Lock()
	defer m.snapshots.mu.Unlock()
	m.snapshots.running += n
}

// SnapshotEnded has raft told how one snapshot to the member ended: at once, or a failure after the back-off, which ends
// early with the member, with new URLs, with the end of a pause, and when the member becomes active. It does not block.
func (m *Member) SnapshotEnded(err error) {
	r := &m.snapshots
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running--
	if err == nil {
		r.failures = 0
		m.reportHeld() // in order
		m.Reports.Snapshot(nil)
		return
	}
	r.failures++
	wait := snapshotBackoff(m.Cfg.SnapshotBackoff, r.failures)
	if wait == 0 {
		m.Reports.Snapshot(err)
		if r.failures >= repeatedSnapshots && m.Ctx.Err() == nil && r.advice.Due(time.Now()) {
			m.Log.Warn("raft repeats failed snapshots to the peer at once: remove the cause, and set Transport.SnapshotBackoff",
				zap.Int("failures-in-a-row", r.failures), zap.Error(err))
		}
		return
	}
	r.held = append(r.held, err)
	if r.hurry != nil {
		return
	}
	hurry := make(chan struct{})
	if !m.Spawn(func() { m.holdSnapshots(wait, hurry) }) {
		m.reportHeld()
		return
	}
	r.hurry, r.at = hurry, time.Now().Add(wait)
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

func (m *Member) holdSnapshots(wait time.Duration, hurry chan struct{}) {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-hurry:
	case <-m.Ctx.Done():
	}
	r := &m.snapshots
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.hurry == hurry {
		m.endHold()
	}
}

// endHold ends the wait for the time to report what is held back, and reports it unless a snapshot is under way. It is called with
// mu of snapshots held.
func (m *Member) endHold() {
	r := &m.snapshots
	if r.hurry != nil {
		close(r.hurry)
		r.hurry = nil
	}
	if r.running == 0 || m.Ctx.Err() != nil {
		m.reportHeld()
	} else if now := time.Now(); r.at.After(now) {
		r.at = now
	}
}

// reportHeld is called with mu of snapshots held.
func (m *Member) reportHeld() {
	r := &m.snapshots
	for _, err := range r.held {
		m.Reports.Snapshot(err)
	}
	if r.hurry != nil {
		close(r.hurry)
	}
	r.held, r.hurry, r.at = nil, nil, time.Time{}
}

// HurrySnapshots ends the back-off, and begins it anew: what made snapshots fail may be over.
func (m *Member) HurrySnapshots() {
	m.snapshots.mu.Lock()
	defer m.snapshots.mu.Unlock()
	m.snapshots.failures = 0
	m.endHold()
}

// SnapshotsHeldUntil returns when raft is told of failed snapshots whose reports are held back, or a time in the past if it is once
// none is under way; the zero time: there are none.
func (m *Member) SnapshotsHeldUntil() time.Time {
	m.snapshots.mu.Lock()
	defer m.snapshots.mu.Unlock()
	return m.snapshots.at
}
