package rafthttp

import "go.etcd.io/raft/v3"

// reports tells Raft what happened to messages and snapshots to one member: Send
// must not call into Raft, and a Raft that is busy must not hold up a lane.
type reports struct {
	notifier notifier
	raft     Raft
	id       uint64

	unreachable bool                  // coalesced: once is enough however many messages are lost
	snapshots   []raft.SnapshotStatus // each is told
}

func newReports(to Raft, id uint64) *reports {
	r := &reports{raft: to, id: id}
	r.notifier.take = r.takeAll
	return r
}

// lost reports the member unreachable.
func (r *reports) lost() {
	r.notifier.mu.Lock()
	defer r.notifier.mu.Unlock()
	r.unreachable = true
	r.notifier.start()
}

// snapshot reports the end of one snapshot.
func (r *reports) snapshot(err error) {
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
func (r *reports) takeAll() func() {
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
