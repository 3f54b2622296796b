package observe_test

import (
	"context"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// noRaft is a rafthttp.Raft that does nothing.
type noRaft struct{}

func (noRaft) Process(context.Context, *raftpb.Message) error { return nil }
func (noRaft) IsIDRemoved(uint64) bool                        { return false }
func (noRaft) ReportUnreachable(uint64)                       {}
func (noRaft) ReportSnapshot(uint64, raft.SnapshotStatus)     {}
