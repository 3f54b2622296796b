package rafthttp

import (
	"context"
	"io"

	"go.etcd.io/raft/v3/raftpb"
	"golang.org/x/time/rate"

	"github.com/seed-4d73690b/rafthttp/internal/callback"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
	"github.com/seed-4d73690b/rafthttp/internal/snapshot"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// Snapshotter saves incoming databases. snap.Store and etcd's implement it. It may
// also be a ResumingSnapshotter, a PreparingSnapshotter or a DiscardingSnapshotter.
type Snapshotter interface {
	// SaveDBFrom saves the database read from r, which belongs to the snapshot
	// with index id, and returns its size. It is called from several goroutines
	// at once. The message of the snapshot is processed after it
	// returns, so the database must be durable then. An error of r means that the database
	// is incomplete: the message is not processed then, whatever
	// SaveDBFrom returns, nor if SaveDBFrom has not read r to its end.
	SaveDBFrom(r io.Reader, id uint64) (int64, error)
}

// ResumingSnapshotter is a Snapshotter that can resume a database whose
// transfer was interrupted. snap.Store is one. Between two members with one, databases
// have a checksum, and an interrupted transfer continues where it broke
// (docs/extensions.md). A Snapshotter that wraps a snap.Store has to forward these
// methods.
type ResumingSnapshotter interface {
	Snapshotter
	// PartialDB returns how much of a database ResumeDBFrom has kept: bytes from
	// its start, and their CRC-32C (Castagnoli); 0 and 0 if nothing.
	PartialDB(t snap.Transfer) (offset int64, checksum uint32)
	// ResumeDBFrom saves a database of which r delivers the bytes from offset on, and
	// returns the number of these bytes. After the last it calls checksum for the
	// CRC-32C of the complete database, and must not save one that has another: then
	// the error is snap.ErrChecksum. It is snap.ErrOffset if PartialDB would no
	// longer return offset.
	ResumeDBFrom(r io.Reader, t snap.Transfer, offset int64, checksum func() (uint32, error)) (int64, error)
}

// PreparingSnapshotter is a Snapshotter that is asked before a database arrives:
// to refuse it, to choose who saves it, or to make room. snap.Store is one. A
// Snapshotter that wraps another has to forward the method.
type PreparingSnapshotter interface {
	Snapshotter
	// PrepareDB is called once for each attempt to send a database, after its message
	// was read and authorized, and before any of the database is read. A transfer that
	// breaks and is resumed is another attempt. Removed members, and messages for
	// others, are refused before.
	//
	// m is the message, which must not be modified, nor used after PrepareDB has
	// returned. size is that of the complete database in bytes, or below 0 if its
	// sender does not declare it; of a resumed transfer, a part may be
	// present already. It is the sender's claim, not verified.
	//
	// The result saves this database in place of the Snapshotter; nil stands for
	// the Snapshotter itself. If it is a ResumingSnapshotter or a
	// DiscardingSnapshotter, it is used as one, while the question how much of a
	// database is present always goes to the Snapshotter of the Transport. A result that
	// cannot resume gets the database from its beginning, and the last bytes of one that
	// has a checksum only if that is right. An error
	// refuses the database, as one of SaveDBFrom does, and its sender is told the
	// cause if that is known (ErrSnapshotDiskFull and others).
	//
	// A snapshot must not be refused because raft will not want it: its sender
	// continues by what raft answers to one that is too old.
	//
	// It is called from several goroutines at once. It may block until ctx ends:
	// with the Transport, and after ReadTimeout, when the sender
	// gives up.
	PrepareDB(ctx context.Context, m *raftpb.Message, size int64) (snap.Saver, error)
}

// DiscardingSnapshotter is a Snapshotter that is told when a database that it has
// saved is not used. snap.Store is one. A Snapshotter that wraps another has to
// forward the method.
type DiscardingSnapshotter interface {
	Snapshotter
	// DiscardDB reports that the database of the snapshot with index id, which a call
	// of SaveDBFrom or ResumeDBFrom has saved without an error, will not be used,
	// and why: Process returned an error, or was not called because the member was
	// removed or its certificate revoked meanwhile, its turn did not come in time, the
	// transport was stopped, or the database was incomplete. It is called at most once for
	// each such call. Another call may have saved a database of the same index whose
	// message was processed: that one must stay.
	//
	// A message that Process accepted is not reported, although raft may ignore it: the
	// server knows that once it has applied entries beyond the snapshot's index.
	//
	// It is called from several goroutines at once, may block, and is not called
	// after Stop has returned.
	DiscardDB(id uint64, cause error)
}

var (
	_ ResumingSnapshotter   = (*snap.Store)(nil)
	_ PreparingSnapshotter  = (*snap.Store)(nil)
	_ DiscardingSnapshotter = (*snap.Store)(nil)
)

// SetSnapshotRateLimit changes SnapshotRateLimit, in bytes a second, for transfers
// in progress as well, with immediate effect. 0 means unlimited. The error is a
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

// observeProgress returns a function that calls SnapshotProgress for a transfer,
// asynchronously, and only with the last state. It is nil if the hook is.
func (s *snapshotSettings) observeProgress(to *callback.Events, of *snapshot.Progress) func(snapshot.Status) {
	f := s.progress
	if f == nil {
		return nil
	}
	return func(st snapshot.Status) { to.Progress(of, func() { f(SnapshotStatus(st)) }) }
}

// groupSnapshotEnded calls GroupSnapshotEnded for the end of a transfer, asynchronously.
func (s *snapshotSettings) groupSnapshotEnded(to *callback.Events, st snapshot.Status) {
	if f := s.ofGroup; f != nil {
		to.TransferEnded(func() { f(SnapshotStatus(st)) })
	}
}

// snapshotEnded calls hook for the end of a transfer, asynchronously. The hook may be nil.
func snapshotEnded(to *callback.Events, hook callback.SnapshotHook, st snapshot.Status, err error) {
	if hook != nil {
		to.TransferEnded(func() { hook(st.Peer, st.Index, st.Bytes, st.Ended.Sub(st.Started), err) })
	}
}
