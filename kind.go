package rafthttp

import "go.etcd.io/raft/v3/raftpb"

// kind is one of the three kinds of messages that do not wait for each other, on
// the way out or in.
type kind int

const (
	kindControl  kind = iota // heartbeats, votes, responses: what keeps elections and leases going
	kindAppend               // MsgApp, and MsgSnap
	kindProposal             // MsgProp: Process may block on one while there is no leader
	kinds                    // how many there are
)

// String returns the name of the receive lane of the kind.
func (k kind) String() string { return [kinds]string{"control", "append", "proposal"}[k] }

func kindOf(t raftpb.MessageType) kind {
	switch t {
	case raftpb.MsgProp:
		return kindProposal
	case raftpb.MsgApp, raftpb.MsgSnap:
		return kindAppend
	default:
		return kindControl
	}
}
