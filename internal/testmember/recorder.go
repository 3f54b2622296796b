package testmember

import (
	"context"
	"sync"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// Recorder is a Raft that keeps what it is told.
type Recorder struct {
	OnProcess func(context.Context, *raftpb.Message) error // nil: keep the message
	Removed   func(uint64) bool

	mu          sync.Mutex
	messages    []*raftpb.Message
	unreachable map[uint64]int
	snapshots   []raft.SnapshotStatus
}

// Process calls OnProcess, or keeps the message.
func (r *Recorder) Process(ctx context.Context, m *raftpb.Message) error {
	if r.OnProcess != nil {
		return r.OnProcess(ctx, m)
	}
	r.Keep(m)
	return nil
}

// Keep adds a message to those received.
func (r *Recorder) Keep(m *raftpb.Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.messages = append(r.messages, m)
}

// IsIDRemoved calls Removed.
func (r *Recorder) IsIDRemoved(id uint64) bool { return r.Removed != nil && r.Removed(id) }

// ReportUnreachable counts the report.
func (r *Recorder) ReportUnreachable(id uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.unreachable == nil {
		r.unreachable = map[uint64]int{}
	}
	r.unreachable[id]++
}

// ReportSnapshot keeps the report.
func (r *Recorder) ReportSnapshot(_ uint64, s raft.SnapshotStatus) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.snapshots = append(r.snapshots, s)
}

// Received returns the messages kept so far.
func (r *Recorder) Received() []*raftpb.Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]*raftpb.Message(nil), r.messages...)
}

// Unreachables returns how often a member was reported unreachable.
func (r *Recorder) Unreachables(id uint64) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.unreachable[id]
}

// SnapshotReports returns what was reported of snapshots.
func (r *Recorder) SnapshotReports() []raft.SnapshotStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]raft.SnapshotStatus(nil), r.snapshots...)
}
