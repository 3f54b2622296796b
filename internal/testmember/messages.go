package testmember

import (
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"
)

// MsgSnap is a message with a snapshot.
func MsgSnap(to, from types.ID, index uint64) *raftpb.Message {
	return &raftpb.Message{
		Type: raftpb.MsgSnap.Enum(), To: new(uint64(to)), From: new(uint64(from)), Term: new(uint64(1)),
		Snapshot: &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
			Index: new(index), Term: new(uint64(1)), ConfState: &raftpb.ConfState{Voters: []uint64{1, 2}},
		}},
	}
}

// Heartbeats are n heartbeats, with commit indexes from 0 on.
func Heartbeats(from, to types.ID, n int) (ms []*raftpb.Message) {
	for i := range n {
		ms = append(ms, Heartbeat(to, from, uint64(i)))
	}
	return ms
}

// MiB is 1 MiB in bytes.
const MiB = 1 << 20

// MsgApp is an append with one entry.
func MsgApp(to, from types.ID, index uint64, data []byte) *raftpb.Message {
	return &raftpb.Message{
		Type: raftpb.MsgApp.Enum(), To: new(uint64(to)), From: new(uint64(from)), Term: new(uint64(1)),
		LogTerm: new(uint64(1)), Index: new(index), Commit: new(index),
		Entries: []*raftpb.Entry{{Term: new(uint64(1)), Index: new(index + 1), Data: data}},
	}
}

// Heartbeat is a heartbeat with a commit index.
func Heartbeat(to, from types.ID, commit uint64) *raftpb.Message {
	return &raftpb.Message{
		Type: raftpb.MsgHeartbeat.Enum(), To: new(uint64(to)), From: new(uint64(from)),
		Term: new(uint64(1)), Commit: new(commit),
	}
}

// Message is a message of member 1 without content.
func Message(typ raftpb.MessageType, to types.ID) *raftpb.Message {
	return &raftpb.Message{Type: typ.Enum(), To: new(uint64(to)), From: new(uint64(1)), Term: new(uint64(1))}
}

// OfEachKind returns a message of each kind from member 2 to member 1.
func OfEachKind() map[string]*raftpb.Message {
	return map[string]*raftpb.Message{
		"control": Heartbeat(1, 2, 1), "append": MsgApp(1, 2, 1, nil),
		"proposal": {Type: raftpb.MsgProp.Enum(), To: new(uint64(1)), From: new(uint64(2))},
	}
}
