package main

import (
	"context"
	"sync"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/compat/v36/drive"
)

// raftStub reports all that a transport tells raft, and answers as it was told to.
type raftStub struct {
	*events
	mu      sync.Mutex
	removed map[uint64]bool
	answer  drive.Answer
}

func (r *raftStub) Process(_ context.Context, m raftpb.Message) error {
	encoded, err := m.Marshal()
	if err != nil {
		return err
	}
	r.mu.Lock()
	answer := r.answer
	r.mu.Unlock()
	if err := answer.Err(); err != nil {
		return err
	}
	return r.emit(drive.Event{Ev: drive.Received, Message: encoded})
}

func (r *raftStub) IsIDRemoved(id uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.removed[id]
}

func (r *raftStub) ReportUnreachable(id uint64) {
	_ = r.emit(drive.Event{Ev: drive.Unreachable, Peer: id})
}

func (r *raftStub) ReportSnapshot(id uint64, status raft.SnapshotStatus) {
	_ = r.emit(drive.Event{Ev: drive.Snapshot, Peer: id, OK: status == raft.SnapshotFinish})
}

func (r *raftStub) markRemoved(id uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.removed == nil {
		r.removed = make(map[uint64]bool)
	}
	r.removed[id] = true
}

func (r *raftStub) setAnswer(a drive.Answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = a
}
