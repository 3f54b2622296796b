package rafthttp

import (
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
)

// Observer has hooks into a Transport. Every hook may be nil, and then costs
// nothing. Hooks are called on goroutines of the transport and on those of its
// callers, several at once, and sometimes under a lock: they must return soon and
// must not call the Transport.
type Observer struct {
	// PeerState is called when a peer became active, or inactive with its cause.
	PeerState func(id types.ID, active bool, cause error)

	// Dropped is called when messages to or from a peer are not delivered: n
	// messages of the lane with this name (LaneStatus.Name).
	Dropped func(id types.ID, lane string, n int, cause error)

	// SnapshotSent is called at the end of each transfer by SendSnapshot to a
	// peer: index of the snapshot, bytes of the database that were sent, how long
	// it took, and what went wrong, if anything.
	SnapshotSent func(id types.ID, index uint64, bytes int64, took time.Duration, err error)

	// SnapshotReceived is the same for a transfer from another member. A nil err
	// says that the database is saved and Process returned without error.
	SnapshotReceived func(id types.ID, index uint64, bytes int64, took time.Duration, err error)
}
