package rafthttp

import (
	"net/http"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/callback"
)

// Observer has hooks into a Transport. Every hook may be nil, and then costs a
// comparison. None is called under a lock, on the path of Send, or on a goroutine
// that other members wait for: a slow hook delays only the member that it is
// about. PeerState, Dropped and the snapshot hooks are called in order and one at a
// time for each member, after the event, also while the member becomes a peer, is removed
// or added again; the others are called where the event happens, several at once, and
// delay it. A node of raft groups is one more member, also if a peer has its id. None
// is called after Stop has returned, so none may call Stop. Traffic hooks are called once
// per batch; their comments state what they cost beyond the call.
//
// The packages observe and metrics have Observers for log/slog, expvar and
// Prometheus, and observe.Chain calls several.
type Observer struct {
	// PeerState is called when a peer became active, or inactive with its cause: in
	// order, and the last call for a peer that was removed says inactive. Changes that
	// cancel each other are left out while more than 16 of them wait for the hook.
	PeerState func(id types.ID, active bool, cause error)

	// Sent is called after each write to a stream and after each successful POST:
	// with the lane (LaneStatus.Name), the number of messages, their
	// bytes on the wire, and the time of encoding and writing. A write has up
	// to 512 messages; a link heartbeat alone has none. It costs no allocation, no
	// lock and no additional clock reading.
	Sent func(id types.ID, lane string, messages int, bytes int64, took time.Duration)

	// Received is called for each batch from a stream, up to 128 messages, when
	// it enters a receive lane, and for each POST, with lane "post": bytes are
	// bytes of memory for a stream, and bytes on the wire for a POST. Messages
	// that the lane then drops are reported to Dropped as well. It costs a sum over the batch.
	Received func(id types.ID, lane string, messages int, bytes int64)

	// Dropped is called when messages to or from a peer are not delivered: n
	// messages of the lane with this name, at most once per batch. DropReasonOf
	// classifies causes. Messages dropped for the same reason while the hook runs are reported
	// in one call, with the last cause. With ErrLocalMessage, id is the local member, and
	// the lane is called "local".
	Dropped func(id types.ID, lane string, n int, cause error)

	// SlowProcess is called after Process took SlowProcessAfter or longer for a
	// message of the receive lane with this name, or of a "post" or a "snapshot".
	// It costs two clock readings per message. LaneStatus.OldestAge shows calls that have
	// not returned yet.
	SlowProcess func(id types.ID, lane string, kind raftpb.MessageType, took time.Duration)
	// SlowProcessAfter is the threshold of SlowProcess; 0 means DefaultSlowProcess. It
	// must not be negative.
	SlowProcessAfter time.Duration

	// Probed is called after each probe of a peer, every 28 s by default, and every
	// 4 s while it fails: the round-trip time of this one probe, and the peer's clock
	// minus ours, which is known to half of that round trip.
	Probed func(id types.ID, rtt, clockOffset time.Duration, err error)

	// SnapshotSent is called at the end of each transfer by SendSnapshot to a
	// peer: with the index of the snapshot, the bytes of the database that were sent, the
	// duration, and the error, if any. While the hook is slow, at most 64 ends of
	// transfers wait per peer.
	SnapshotSent func(id types.ID, index uint64, bytes int64, took time.Duration, err error)

	// SnapshotReceived is the same for a transfer from another member. A nil err
	// means that the database is saved and Process returned without error. Calls are
	// left out while the hook is blocked for 64 members that are not peers.
	SnapshotReceived func(id types.ID, index uint64, bytes int64, took time.Duration, err error)

	// SnapshotProgress is called while a database is transferred, in both
	// directions, at most every quarter of ReadTimeout, with the same values as Status.
	// While the hook runs, later states replace the waiting one.
	SnapshotProgress func(SnapshotStatus)

	// GroupSnapshotEnded is called at the end of each transfer of a snapshot of a raft group, in
	// both directions, in place of SnapshotSent and SnapshotReceived, and in order with them for
	// the node; with the Group, and the Error if it failed. While the hook is slow, at most
	// 64 ends of transfers wait per node: GroupSnapshots counts all.
	GroupSnapshotEnded func(SnapshotStatus)
}

// DefaultSlowProcess is the default of SlowProcessAfter:
// raft's usual tick.
const DefaultSlowProcess = 100 * time.Millisecond

// The lane names of Received and SlowProcess that are not lanes.
const (
	lanePost     = "post"
	laneSnapshot = "snapshot"
)

// writeAnswer lets an error of Process write its answer.
func (q *request) writeAnswer(err interface{ WriteTo(http.ResponseWriter) }) {
	defer q.engine.cfg.Guard.End(q.engine.cfg.Guard.Begin(callback.Call{Name: "WriteTo of an error of Raft.Process", Peer: q.from}))
	err.WriteTo(q.w)
}
