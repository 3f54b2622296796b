package rafthttp

import (
	"sync"

	"go.etcd.io/raft/v3"
)

// reports tells Raft what happened to messages and snapshots to one member, on
// a goroutine of its own that exists only while there is something to tell:
// Send must not call into Raft, and a Raft that is busy must not hold up a
// lane. It is safe for concurrent use and never blocks its callers.
type reports struct {
	raft Raft
	id   uint64
	wg   sync.WaitGroup // joins the goroutine

	mu          sync.Mutex
	unreachable bool                  // coalesced: once is enough however many messages are lost
	snapshots   []raft.SnapshotStatus // each is told
	running     bool
	closed      bool
}

// close tells what is left, and returns when no callback will come any more.
func (r *reports) close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.wg.Wait()
}

// lost reports the member unreachable.
func (r *reports) lost() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unreachable = true
	r.start()
}

// snapshot reports the end of one snapshot.
func (r *reports) snapshot(err error) {
	status := raft.SnapshotFinish
	if err != nil {
		status = raft.SnapshotFailure
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.snapshots = append(r.snapshots, status)
	r.start()
}

// start is called with mu held.
func (r *reports) start() {
	if !r.running && !r.closed {
		r.running = true
		r.wg.Go(r.run)
	}
}

func (r *reports) run() {
	for {
		r.mu.Lock()
		unreachable, snapshots := r.unreachable, r.snapshots
		r.unreachable, r.snapshots = false, nil
		if !unreachable && len(snapshots) == 0 {
			r.running = false
			r.mu.Unlock()
			return
		}
		r.mu.Unlock()
		if unreachable {
			r.raft.ReportUnreachable(r.id)
		}
		for _, status := range snapshots {
			r.raft.ReportSnapshot(r.id, status)
		}
	}
}
