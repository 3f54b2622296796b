package rafthttp

import (
	"fmt"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
)

// identityCounters count what was refused because it is not of the member that
// it says it is of: those of the settings everything, those of a link what was
// said to be of its member.
type identityCounters struct {
	dials, requests, messages atomic.Uint64
}

func (c *identityCounters) status() IdentityStatus {
	return IdentityStatus{Dials: c.dials.Load(), Requests: c.requests.Load(), Messages: c.messages.Load()}
}

// What is wrong with a message, without the message: a peer that sends many must
// not make us build as many texts.
var (
	errLocalThread = fmt.Errorf("%w: message of a local thread of raft", ErrIdentity)
	errLocalType   = fmt.Errorf("%w: message of a type that raft sends to itself only", ErrIdentity)
	errOtherFrom   = fmt.Errorf("%w: message of another member", ErrIdentity)
)

// admit returns what is wrong with a message that came over the network from a
// member.
//
// Raft takes a message whose From is one of its local threads for the word of
// its own storage: that entries are durable, or applied. No member has such an id
// and none sends such a message, so it is refused whether VerifyPeer is set or
// not. Everything else is held to the member only with VerifyPeer, since without
// it the member is not known in the first place: raft itself ignores types that
// are local where From is not.
func (s *settings) admit(m *raftpb.Message, from types.ID) error {
	switch {
	case raft.IsLocalMsgTarget(m.GetFrom()):
		return errLocalThread
	case s.verifyPeer == nil:
		return nil
	case raft.IsLocalMsg(m.GetType()):
		return errLocalType
	case m.GetFrom() == uint64(from) || speaksForOthers(m.GetType()):
		return nil
	}
	return errOtherFrom
}

// speaksForOthers reports whether raft sends messages of a type with a From that
// is not the sender's. A follower passes a proposal on to the leader as it came,
// and From means nothing to whom gets one. From of MsgTransferLeader is the
// member that is to lead, whoever asks for it.
//
// MsgReadIndex is not among them: its answer goes to From, so that a member could
// have another one take an old index for the answer to a later question of its
// own. One that two followers passed on, while the leader changed, is lost by
// that; raft may lose them anyway, and who waits asks again.
func speaksForOthers(t raftpb.MessageType) bool {
	return t == raftpb.MsgProp || t == raftpb.MsgTransferLeader
}

// identityRefusal is a request that is not of the member that it states.
type identityRefusal struct {
	text  string
	cause error // for the log, not for the requester
}

func (e *identityRefusal) Error() string   { return e.text }
func (e *identityRefusal) Unwrap() []error { return []error{ErrIdentity, e.cause} }

// refuseIdentity returns the refusal of a request. Its status is a matter of the
// endpoint.
func (q *request) refuseIdentity(cause error) error {
	q.allRefused.requests.Add(1)
	if p := q.peerOf(q.from); p != nil {
		p.refused.requests.Add(1)
	}
	return &identityRefusal{"certificate does not fit the member id", cause}
}

// admitted holds a message of a request to its requester, once it was read: that
// may have taken a while. A requester that
// states no id, which VerifyPeer let through, is who the message says.
func (q *request) admitted(m *raftpb.Message) error {
	if err := q.stands(); err != nil {
		return err
	}
	from := q.from
	if from == 0 && q.verifyPeer != nil {
		from = types.ID(m.GetFrom())
		if err := q.verifyPeer(from, q.r.TLS); err != nil {
			return q.refuseMessage(err)
		}
	}
	if err := q.admit(m, from); err != nil {
		return q.refuseMessage(err)
	}
	return nil
}

// refuseMessage refuses a request for the From of its message.
func (q *request) refuseMessage(cause error) error {
	q.allRefused.messages.Add(1)
	if p := q.peerOf(q.from); p != nil {
		p.refused.messages.Add(1)
	}
	return &identityRefusal{"message is not of the member that sends it", cause}
}

// refuse drops a message that a stream brought and that is not the peer's. The
// stream goes on: raft may have been given, and pass on, what another member
// sent in good faith.
func (p *peer) refuse(m *raftpb.Message, cause error) {
	p.allRefused.messages.Add(1)
	p.refused.messages.Add(1)
	ln := p.receivers.of(m.GetType()).lane
	ln.drop(1, cause)
	if p.refusedLog.due(time.Now()) {
		p.log.Warn("refused a message of the peer; further ones are only counted for a while",
			zap.Stringer("type", m.GetType()), zap.String("from", types.ID(m.GetFrom()).String()), zap.Error(cause))
	}
	if f := p.observer.Dropped; f != nil {
		f(p.peer, ln.name, 1, cause)
	}
}

// refusedDial counts a connection that VerifyPeer refused, and says so.
func (l *link) refusedDial(addr string, cause error) error {
	l.allRefused.dials.Add(1)
	l.refused.dials.Add(1)
	return fmt.Errorf("%w: %s: %w", ErrIdentity, addr, cause)
}
