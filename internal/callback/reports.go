package callback

import "go.etcd.io/raft/v3"

// Reports notify Raft of messages and snapshots to one member: Send must not call into Raft,
// and a busy Raft must not delay a lane.
type Reports struct {
	notifier notifier
	raft     Raft
	id       uint64

	unreachable bool                  // coalesced: one report is enough however many messages are lost
	snapshots   []raft.SnapshotStatus // each is reported
}

func newReports(to Raft, id uint64) *Reports {
	r := &Reports{raft: to, id: id}
	r.notifier.take = r.takeAll
	return r
}

// Unreachable reports the member unreachable. It does not block.
func (r *Reports) Unreachable() {
	r.notifier.mu.Lock()
	defer r.notifier.mu.Unlock()
	r.unreachable = true
	r.notifier.start()
}

// Snapshot reports the end of one snapshot: a failure unless err is nil. It does not block.
func (r *Reports) Snapshot(err error) {
	status := raft.SnapshotFinish
	if err != nil {
		status = raft.SnapshotFailure
	}
	r.notifier.mu.Lock()
	defer r.notifier.mu.Unlock()
	r.snapshots = append(r.snapshots, status)
	r.notifier.start()
}

// takeAll is called with mu held.
func (r *Reports) takeAll() func() {
	unreachable, snapshots := r.unreachable, r.snapshots
	r.unreachable, r.snapshots = false, nil
	if !unreachable && len(snapshots) == 0 {
		return nil
	}
	return func() {
		if unreachable {
			r.raft.ReportUnreachable(r.id)
		}
		for _, status := range snapshots {
			r.raft.ReportSnapshot(r.id, status)
		}
	}
}
