package queue

import "go.etcd.io/raft/v3/raftpb"

// Kind is one of the three kinds of messages that do not wait for each other, in
// either direction.
type Kind int

// The kinds.
const (
	Control  Kind = iota // heartbeats, votes, responses: they keep elections and leases going
	Append               // MsgApp, and MsgSnap
	Proposal             // MsgProp: Process may block on one while there is no leader
	Kinds                // number of kinds
)

// String returns the name of the receive queue of the kind.
func (k Kind) String() string { return [Kinds]string{"control", "append", "proposal"}[k] }

// KindOf returns the kind of messages of type t.
func KindOf(t raftpb.MessageType) Kind {
	switch t {
	case raftpb.MsgProp:
		return Proposal
	case raftpb.MsgApp, raftpb.MsgSnap:
		return Append
	default:
		return Control
	}
}

// CountSnapshots returns how many of msgs are MsgSnap.
func CountSnapshots(msgs []*raftpb.Message) (n int) {
	for _, m := range msgs {
		if m.GetType() == raftpb.MsgSnap {
			n++
		}
	}
	return n
}
