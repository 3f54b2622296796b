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
// that other members wait for: a slow hook costs only the member that it is told
// of. PeerState, Dropped and those about snapshots come one after another for each
// member, after what they tell of, also while it becomes a peer, is removed or added
// again; the others come where it happens, several at once,
// and hold it up. None comes after Stop has returned, so none may call Stop. Those
// for traffic are called once for each batch; what they cost beyond the call itself
// is said there.
//
// The packages observe and metrics have Observers for log/slog, expvar and
// Prometheus, and observe.Chain calls several.
type Observer struct {
	// PeerState is called when a peer became active, or inactive with its cause: in
	// order, and the last call for a peer that was removed says inactive. Changes that
	// cancel each other are left out while more than 16 of them wait for the hook.
	PeerState func(id types.ID, active bool, cause error)

	// Sent is called after each write to a stream and after each successful post:
	// how many messages of the lane with this name (LaneStatus.Name) it had, its
	// bytes on the wire, and how long encoding and writing took. A write has up
	// to 512 messages; it may have none, for a link heartbeat. No allocation, no
	// lock, no clock that is not read anyhow.
	Sent func(id types.ID, lane string, messages int, bytes int64, took time.Duration)

	// Received is called for what a stream brought at once, up to 128 messages, as
	// it enters a receive lane, and for each post, with lane "post": bytes are
	// those of memory for a stream, and those on the wire for a post. What the
	// lane then drops is told to Dropped as well. It costs a sum over the batch.
	Received func(id types.ID, lane string, messages int, bytes int64)

	// Dropped is called when messages to or from a peer are not delivered: n
	// messages of the lane with this name, at most once for each batch. DropReasonOf
	// sorts causes. What is dropped for the same reason while the hook runs is told in
	// one call, with the last cause. With ErrLocalMessage, id is the local member, and
	// the lane is called "local".
	Dropped func(id types.ID, lane string, n int, cause error)

	// SlowProcess is called after Process took SlowProcessAfter or longer for a
	// message of the receive lane with this name, or of a "post" or a "snapshot".
	// It costs two readings of the clock for each message. What has not returned
	// yet is seen in LaneStatus.OldestAge.
	SlowProcess func(id types.ID, lane string, kind raftpb.MessageType, took time.Duration)
	// SlowProcessAfter is the threshold of SlowProcess; 0 means DefaultSlowProcess. It
	// must not be negative.
	SlowProcessAfter time.Duration

	// Probed is called after each probe of a peer, every 28 s by default, and every
	// 4 s while it fails: the round-trip time of this one probe, and the peer's clock
	// minus ours, which is known to half of that round trip.
	Probed func(id types.ID, rtt, clockOffset time.Duration, err error)

	// SnapshotSent is called at the end of each transfer by SendSnapshot to a
	// peer: index of the snapshot, bytes of the database that were sent, how long
	// it took, and what went wrong, if anything. Of ends of transfers that wait for a
	// slow hook, 64 are kept for a peer.
	SnapshotSent func(id types.ID, index uint64, bytes int64, took time.Duration, err error)

	// SnapshotReceived is the same for a transfer from another member. A nil err
	// says that the database is saved and Process returned without error. Calls are
	// left out while the hook stands still for 64 members that are no peers.
	SnapshotReceived func(id types.ID, index uint64, bytes int64, took time.Duration, err error)

	// SnapshotProgress is called while a database is transferred, in both
	// directions, at most every quarter of ReadTimeout, with what Status would say
	// of the transfer. While the hook runs, later states replace those that wait.
	SnapshotProgress func(SnapshotStatus)
}

// DefaultSlowProcess is how long Process may take without being called slow:
// raft's usual tick.
const DefaultSlowProcess = 100 * time.Millisecond

// The lanes of Received and SlowProcess that are no lanes.
const (
	lanePost     = "post"
	laneSnapshot = "snapshot"
)

// writeAnswer has an error of Process write its answer.
func (q *request) writeAnswer(err interface{ WriteTo(http.ResponseWriter) }) {
	defer q.engine.cfg.Guard.End(q.engine.cfg.Guard.Begin(callback.Call{Name: "WriteTo of an error of Raft.Process", Peer: q.from}))
	err.WriteTo(q.w)
}
