package rafthttp

import (
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"golang.org/x/time/rate"

	"github.com/seed-4d73690b/rafthttp/internal/callback"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
	"github.com/seed-4d73690b/rafthttp/internal/snapshot"
)

// SnapshotStatus is the state of one transfer of a database.
type SnapshotStatus struct {
	// Peer is the other member.
	Peer types.ID `json:"peer"`
	// Incoming says that the peer is the sender.
	Incoming bool   `json:"incoming"`
	Index    uint64 `json:"index"` // of the snapshot
	// Bytes of the database that were transferred, of Total; -1 if that is not
	// known. Both count what an earlier attempt has brought.
	Bytes int64 `json:"bytes"`
	Total int64 `json:"total"`
	// Rate is how fast it was in the last one or two seconds, in bytes a second.
	Rate float64 `json:"rate"`
	// ETA is how long it takes at that rate, in nanoseconds; 0 if that is not
	// known.
	ETA     time.Duration `json:"eta_ns,omitempty"`
	Started time.Time     `json:"started"`
	// Attempts counts those of an outgoing transfer; it waits while that is 0.
	Attempts int `json:"attempts,omitempty"`
	// Error is how the last attempt failed, and Ended when the transfer did: the
	// zero time while it goes on.
	Error string    `json:"error,omitempty"`
	Ended time.Time `json:"ended,omitzero"`
}

func (s SnapshotStatus) peer() types.ID { return s.Peer }

// snapshotStatuses returns what Status and Observer tell of transfers under way and of
// the one that ended last, which may be nil.
func snapshotStatuses(all []snapshot.Status, last *snapshot.Status) ([]SnapshotStatus, *SnapshotStatus) {
	var told []SnapshotStatus
	for _, st := range all {
		told = append(told, SnapshotStatus(st))
	}
	if last == nil {
		return told, nil
	}
	copied := SnapshotStatus(*last)
	return told, &copied
}

// observeProgress returns a function that has SnapshotProgress called for a transfer:
// asynchronously, and only with the last state. It is nil if the hook is.
func (s *settings) observeProgress(to *callback.Events, of *snapshot.Progress) func(snapshot.Status) {
	f := s.observer.SnapshotProgress
	if f == nil {
		return nil
	}
	return func(st snapshot.Status) { to.Progress(of, func() { f(SnapshotStatus(st)) }) }
}

// snapshotEnded has hook called for the end of a transfer, asynchronously. The hook may be nil.
func snapshotEnded(to *callback.Events, hook callback.SnapshotHook, st snapshot.Status, err error) {
	if hook != nil {
		to.TransferEnded(func() { hook(st.Peer, st.Index, st.Bytes, st.Ended.Sub(st.Started), err) })
	}
}

// SetSnapshotRateLimit changes SnapshotRateLimit, in bytes a second, for transfers
// under way as well: it takes effect at once. 0 means unlimited. The error is a
// *ConfigError for a limit below 0, or says that the transport was not started. It
// does not block. After Stop it does nothing.
func (t *Transport) SetSnapshotRateLimit(limit rate.Limit) error {
	if !(limit >= 0) {
		return &ConfigError{"SnapshotRateLimit", limit, "0 for unlimited, or a positive value"}
	}
	e := t.engine.Load()
	if e == nil {
		return protocol.ErrNotStarted
	}
	e.pace.SetLimit(rateLimit(limit))
	return nil
}
