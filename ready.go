package rafthttp

import (
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/internal/asyncwrites"
	"github.com/seed-4d73690b/rafthttp/internal/member"
)

// This file has the functions for the application's own raft: for its messages, and for its configuration.

// SplitMessages takes apart the messages of a Ready of a raft that has
// Config.AsyncStorageWrites: peers are for other members, appends for
// raft.LocalAppendThread (MsgStorageAppend), applies for raft.LocalApplyThread
// (MsgStorageApply). Each keeps the order of msgs. Send takes the peers at once,
// nothing has to be saved first. Each of the two threads of the application takes all
// of its messages, in order, and calls DeliverResponses after each.
//
// A candidate's MsgVote becomes a response of the MsgStorageAppend beside it, which has
// its term and vote: raft would have it sent at once, and a member that is elected,
// crashes before that write is durable, and is elected again would lead one term twice,
// with different entries.
//
// Without AsyncStorageWrites all messages are for peers. The results may share the
// memory of msgs; neither that nor a message is changed: the MsgStorageAppend that gets
// a MsgVote is a copy. Apart from elections, what raft makes costs no allocation. See docs/async-storage-writes.md.
func SplitMessages(msgs []*raftpb.Message) (peers, appends, applies []*raftpb.Message) {
	return asyncwrites.Split(msgs)
}

// DeliverResponses delivers the responses of m, a MsgStorageAppend or MsgStorageApply,
// in their order: those to the member itself to step, the others to send, such as
// Transport.Send. Call it once m is done: for a MsgStorageAppend when everything that
// it carries is durable, since the responses promise that to other members; for a
// MsgStorageApply when its entries are applied. Messages to one thread are done, and
// their responses delivered, in the order in which raft gave them.
//
// step is RawNode.Step, or a function that calls Node.Step with a context. Its first
// error ends the delivery and is returned: raft is stopped, or would wait for ever for
// the rest. raft.ErrStepPeerNotFound is none, which RawNode returns for the own answers
// of a member that was removed. DeliverResponses blocks while step does.
func DeliverResponses(m *raftpb.Message, step func(*raftpb.Message) error, send func([]*raftpb.Message)) error {
	return asyncwrites.Deliver(m, step, send)
}

// LimitInflight fits raft's window of appends in flight to the send queue of t. Call it
// after the queue's fields are set and before c is used:
//
//   - A MaxInflightBytes of 0, which is no limit, becomes half of SendQueueBytes, or
//     an eighth of MaxQueuedBytes if that is less: so much the queues of two followers
//     that are slow have each. Beside its data the queue charges about 120 bytes for an
//     entry and 280 for a message, so that half is enough for entries of 120 bytes and
//     more. Raft demands at least MaxSizePerMsg.
//   - MaxInflightMsgs is at most SendQueueMessages.
//
// What it changes is logged, and that MaxSizePerMsg is too large for it to help. The
// limit is for one group: groups that share a Transport share its queues.
//
// Without it a follower that is slow fills its queue: what
// has no room is dropped, and raft is told once the queue has drained, which loses
// little (see doc.go), but a queue that is never full costs less, and what is in it
// is younger.
func (t *Transport) LimitInflight(c *raft.Config) {
	log := t.Logger
	if log == nil {
		log = zap.NewNop()
	}
	if c.MaxInflightBytes == 0 {
		fits := member.InflightBytes(orDefault(t.SendQueueBytes, defaultQueueBytes), orDefault(t.MaxQueuedBytes, defaultMaxQueuedBytes))
		c.MaxInflightBytes = max(fits, c.MaxSizePerMsg)
		if c.MaxSizePerMsg > fits {
			log.Warn("raft's appends in flight may be more than the send queue holds: lower raft.Config.MaxSizePerMsg, or raise the bounds of the queue",
				zap.Uint64("max-size-per-msg", c.MaxSizePerMsg), zap.Uint64("fits", fits))
		}
		log.Info("limited raft's appends in flight to what the send queue holds", zap.Uint64("max-inflight-bytes", c.MaxInflightBytes))
	}
	if most := orDefault(t.SendQueueMessages, defaultQueueMessages); c.MaxInflightMsgs > most {
		log.Info("limited raft's appends in flight to what the send queue holds",
			zap.Int("max-inflight-msgs", most), zap.Int("was", c.MaxInflightMsgs))
		c.MaxInflightMsgs = most
	}
}
