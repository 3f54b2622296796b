package rafthttp

import (
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/internal/asyncwrites"
	"github.com/seed-4d73690b/rafthttp/internal/member"
)

// This file has functions for the application's own raft: for its messages and its configuration.

// SplitMessages separates the messages of a Ready of a raft with
// Config.AsyncStorageWrites: peers are for other members, appends for
// raft.LocalAppendThread (MsgStorageAppend), applies for raft.LocalApplyThread
// (MsgStorageApply). Each keeps the order of msgs. Send may send peers at once:
// they wait for no write. Each of the two threads of the application handles all
// of its messages, in order, and calls DeliverResponses after each.
//
// A candidate's MsgVote becomes a response of the MsgStorageAppend beside it, which has
// its term and vote: raft would have it sent at once. A member that is elected,
// crashes before that write is durable, and is elected again would lead one term twice,
// with different entries.
//
// Without AsyncStorageWrites all messages are for peers. The results may share the memory of msgs; neither that nor a
// message is modified: the MsgStorageAppend that gets a MsgVote is a copy. Except for elections, messages made by raft
// cost no allocation. See docs/async-storage-writes.md.
func SplitMessages(msgs []*raftpb.Message) (peers, appends, applies []*raftpb.Message) {
	return asyncwrites.Split(msgs)
}

// DeliverResponses delivers the responses of m, a MsgStorageAppend or MsgStorageApply,
// in order: those to the member itself to step, the others to send, such as
// Transport.Send. Call it once m is done: for a MsgStorageAppend when all its data are
// durable, since the responses promise that to other members; for a
// MsgStorageApply when its entries are applied. Messages to one thread are done, and
// their responses delivered, in raft's order.
//
// step is RawNode.Step, or a function that calls Node.Step with a context. Its first
// error ends the delivery and is returned: raft is stopped, or would wait forever for
// the rest. raft.ErrStepPeerNotFound, which RawNode returns for a removed member's
// responses to itself, is not an error. DeliverResponses blocks while step does.
func DeliverResponses(m *raftpb.Message, step func(*raftpb.Message) error, send func([]*raftpb.Message)) error {
	return asyncwrites.Deliver(m, step, send)
}

// LimitInflight fits raft's window of appends in flight to the send queue of t. Call it
// after the queue's fields are set and before c is used:
//
//   - A MaxInflightBytes of 0, which means no limit, becomes half of SendQueueBytes, or
//     an eighth of MaxQueuedBytes if that is less: the share of each of two slow
//     followers. Beside the data the queue counts about 120 bytes per
//     entry and 280 per message, so that half is enough for entries of 120 bytes and
//     more. Raft requires at least MaxSizePerMsg.
//   - MaxInflightMsgs is at most SendQueueMessages.
//
// Changes are logged, and also a MaxSizePerMsg too large for them to help. The
// limit is for one group: groups that share a Transport share its queues.
//
// Without it a slow follower fills its queue: messages
// without room are dropped, and raft is told once the queue has drained, which loses
// little (see doc.go), but a queue that is never full costs less, and its messages
// are younger.
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
