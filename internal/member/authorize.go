package member

import (
	"fmt"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/protocol"
)

// Reasons for refusing a message, without the message: a peer that sends many must
// not make us build as many texts.
var (
	errLocalThread = fmt.Errorf("%w: message of a local thread of raft", protocol.ErrIdentity)
	errLocalType   = fmt.Errorf("%w: message of a type that raft sends to itself only", protocol.ErrIdentity)
	errOtherFrom   = fmt.Errorf("%w: message of another member", protocol.ErrIdentity)
)

// AuthorizeMessage returns why a message from another member is refused, whichever way it
// came, or nil.
//
// A message for another member, sent to a wrong address, must not reach our raft, which
// would accept the other's entries and commit index as its own.
//
// Raft accepts a message whose From is one of its local threads as one from
// its own storage: entries are durable, or applied. No member has such an id
// or sends such a message, so it is refused with and without
// VerifyPeer. So is MsgForgetLeader, which only an application may give to its own raft,
// and which raft does not count among its local types. Other checks of From
// apply only with VerifyPeer, since without it the member is not verified
// at all: raft itself ignores local types whose From is not a local thread.
func (c *Config) AuthorizeMessage(m *raftpb.Message, from types.ID) error {
	if to := m.GetTo(); to != 0 && to != uint64(c.ID) {
		return protocol.ErrToMismatch
	}
	return c.authorizeSender(m, m.GetFrom() == uint64(from))
}

// AuthorizeReplica returns why a message of a raft group, for the replica self, is refused, or nil. own reports whether
// the replica in From may live on the node that sent it. Ids of replicas are not used twice: a message for a former
// replica makes raft panic in another.
func (c *Config) AuthorizeReplica(m *raftpb.Message, self uint64, own bool) error {
	if m.GetTo() != self {
		return protocol.ErrToMismatch
	}
	return c.authorizeSender(m, own)
}

// authorizeSender checks what a message says of its sender, which is that of the message if own is set.
func (c *Config) authorizeSender(m *raftpb.Message, own bool) error {
	switch {
	case raft.IsLocalMsgTarget(m.GetFrom()):
		return errLocalThread
	case m.GetType() == raftpb.MsgForgetLeader:
		return errLocalType
	case c.VerifyPeer == nil:
		return nil
	case raft.IsLocalMsg(m.GetType()):
		return errLocalType
	case own || speaksForOthers(m.GetType()):
		return nil
	}
	return errOtherFrom
}

// speaksForOthers reports whether raft sends messages of a type with a From that
// is not the sender's. A follower forwards a proposal to the leader unchanged,
// and the receiver ignores From. From of MsgTransferLeader is the
// new leader, whichever member sends it.
//
// MsgReadIndex is not among them: its answer goes to From, so that a member could
// make another one take an old index for the answer to its own later
// request. One that two followers forwarded, while the leader changed, is lost by
// that; raft may lose them anyway, and the requester asks again.
func speaksForOthers(t raftpb.MessageType) bool {
	return t == raftpb.MsgProp || t == raftpb.MsgTransferLeader
}
