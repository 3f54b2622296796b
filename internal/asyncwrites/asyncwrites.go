// Package asyncwrites sorts the messages of a raft with Config.AsyncStorageWrites, and delivers the responses that wait
// for its writes. It has no state.
package asyncwrites

import (
	"errors"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// Split is rafthttp.SplitMessages.
func Split(msgs []*raftpb.Message) (peers, appends, applies []*raftpb.Message) {
	n := slices.IndexFunc(msgs, func(m *raftpb.Message) bool { return raft.IsLocalMsgTarget(m.GetTo()) })
	if n < 0 {
		return msgs, nil, nil
	}
	peers = slices.Clip(msgs[:n]) // raft puts those for its threads last
	for i, m := range msgs[n:] {
		here := msgs[n+i:][:1:1]
		switch m.GetTo() {
		case raft.LocalAppendThread:
			appends = join(appends, here)
		case raft.LocalApplyThread:
			applies = join(applies, here)
		default:
			peers = join(peers, here)
		}
	}
	if len(appends) > 0 && slices.ContainsFunc(peers, isVote) {
		last := len(appends) - 1
		var write *raftpb.Message
		peers, write = holdVotes(peers, appends[last])
		appends = append(slices.Clone(appends[:last]), write)
	}
	return peers, appends, applies
}

func isVote(m *raftpb.Message) bool { return m.GetType() == raftpb.MsgVote }

// holdVotes makes each MsgVote of peers a response of a MsgStorageAppend, and returns
// the others, and the MsgStorageAppend with its responses: a copy, which shares its
// entries.
func holdVotes(peers []*raftpb.Message, m *raftpb.Message) (others []*raftpb.Message, write *raftpb.Message) {
	write = &raftpb.Message{
		Type: m.Type, To: m.To, From: m.From, Term: m.Term, LogTerm: m.LogTerm, Index: m.Index, Entries: m.Entries,
		Commit: m.Commit, Vote: m.Vote, Snapshot: m.Snapshot, Reject: m.Reject, RejectHint: m.RejectHint,
		Context: m.Context, Responses: slices.Clip(m.Responses),
	}
	for _, p := range peers {
		if isVote(p) {
			write.Responses = append(write.Responses, p)
		} else {
			others = append(others, p)
		}
	}
	return others, write
}

// join appends b to a, in new memory unless one of them is empty.
func join(a, b []*raftpb.Message) []*raftpb.Message {
	if len(a) == 0 {
		return b
	}
	return append(a, b...)
}

// Deliver is rafthttp.DeliverResponses.
func Deliver(m *raftpb.Message, step func(*raftpb.Message) error, send func([]*raftpb.Message)) error {
	toSelf := func(r *raftpb.Message) bool { return r.GetTo() == m.GetFrom() }
	for rest := m.GetResponses(); len(rest) > 0; {
		if toSelf(rest[0]) {
			if err := step(rest[0]); err != nil && !errors.Is(err, raft.ErrStepPeerNotFound) {
				return err
			}
			rest = rest[1:]
			continue
		}
		n := slices.IndexFunc(rest, toSelf)
		if n < 0 {
			n = len(rest)
		}
		send(rest[:n:n])
		rest = rest[n:]
	}
	return nil
}
