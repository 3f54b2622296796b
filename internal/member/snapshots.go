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

// snapshotReports holds reports of failed snapshots back, so that raft, which repeats a snapshot as soon as it
// is told, waits longer and longer.
type snapshotReports struct {
	mu       sync.Mutex
	failures int           // in a row
	held     []error       // that raft is not told of yet
	at       time.Time     // when it is
	hurry    chan struct{} // closed: they were reported; nil while nothing is held back
	advice   loglimit.Limiter
}

// SnapshotEnded has raft told how one snapshot to the member ended: at once, or a failure after the back-off, which ends
// early with the member, with new URLs, and when the member becomes active. It does not block.
func (m *Member) SnapshotEnded(err error) {
	r := &m.snapshots
	r.mu.Lock()
	defer r.mu.Unlock()
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

// snapshotBackoff is how long the report of one of so many failures in a row is held back.
func snapshotBackoff(first time.Duration, failures int) time.Duration {
	wait, most := first, max(first, maxSnapshotBackoff)
	for range failures - 1 {
		if wait >= most/2 {
			return min(2*wait, most)
		}
		wait *= 2
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
	m.snapshots.mu.Lock()
	defer m.snapshots.mu.Unlock()
	if m.snapshots.hurry == hurry {
		m.reportHeld()
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
	r := &m.snapshots
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = 0
	m.reportHeld()
}

// SnapshotsHeldUntil returns when raft is told of failed snapshots whose reports are held back; the zero time: there are none.
func (m *Member) SnapshotsHeldUntil() time.Time {
	m.snapshots.mu.Lock()
	defer m.snapshots.mu.Unlock()
	return m.snapshots.at
}
