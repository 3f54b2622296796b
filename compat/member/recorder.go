package member

import (
	"context"
	"fmt"
	"sync"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// Recorder is a raft that only writes down what it is told. The zero value is ready; it may be used concurrently.
type Recorder struct {
	mu      sync.Mutex
	seen    Seen
	changed chan struct{} // closed at the next change, if somebody waits for it
}

// Seen is what a Recorder was told.
type Seen struct {
	Messages    []*raftpb.Message
	Unreachable map[uint64]int // how often, by peer
	Snapshots   []SnapshotReport
	Errors      []error // from ErrorC
}

// SnapshotReport is one call of ReportSnapshot.
type SnapshotReport struct {
	Peer   uint64
	Status raft.SnapshotStatus
}

func (r *Recorder) Process(_ context.Context, m *raftpb.Message) error {
	r.change(func(s *Seen) { s.Messages = append(s.Messages, m) })
	return nil
}

func (r *Recorder) IsIDRemoved(uint64) bool { return false }

func (r *Recorder) ReportUnreachable(id uint64) {
	r.change(func(s *Seen) {
		if s.Unreachable == nil {
			s.Unreachable = make(map[uint64]int)
		}
		s.Unreachable[id]++
	})
}

func (r *Recorder) ReportSnapshot(id uint64, status raft.SnapshotStatus) {
	r.change(func(s *Seen) { s.Snapshots = append(s.Snapshots, SnapshotReport{id, status}) })
}

// Fail is for Config.Failed.
func (r *Recorder) Fail(err error) {
	r.change(func(s *Seen) { s.Errors = append(s.Errors, err) })
}

func (r *Recorder) change(do func(*Seen)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	do(&r.seen)
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
}

// Look calls f with what was seen so far; f must keep nothing of it but the messages.
func (r *Recorder) Look(f func(*Seen)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(&r.seen)
}

// Wait waits until ok says yes; it is asked at once and after every change.
func (r *Recorder) Wait(ctx context.Context, ok func(*Seen) bool) error {
	for {
		r.mu.Lock()
		if ok(&r.seen) {
			r.mu.Unlock()
			return nil
		}
		if r.changed == nil {
			r.changed = make(chan struct{})
		}
		changed := r.changed
		r.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for raft to be told: %w", context.Cause(ctx))
		}
	}
}

// Reset forgets what was seen.
func (r *Recorder) Reset() {
	r.change(func(s *Seen) { *s = Seen{} })
}
