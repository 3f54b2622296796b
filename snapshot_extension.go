package rafthttp

import (
	"io"
	"math"
	"net/http"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/snapshot"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// ResumingSnapshotter is a Snapshotter that can go on with a database whose
// transfer was cut. snap.Store is one. Between two members with one, databases
// have a checksum, and a transfer that breaks goes on where it was
// (docs/extensions.md). A Snapshotter that wraps a snap.Store has to hand these
// methods on to it.
type ResumingSnapshotter interface {
	Snapshotter
	// PartialDB returns how much of a database ResumeDBFrom has kept: bytes from
	// its start, and their CRC-32C (Castagnoli); 0 and 0 if nothing.
	PartialDB(t snap.Transfer) (offset int64, checksum uint32)
	// ResumeDBFrom saves a database whose bytes from offset on r brings, and
	// returns how many those were. After the last it calls checksum for the
	// CRC-32C of the whole database, and must not save one that has another: then
	// the error is snap.ErrChecksum. It is snap.ErrOffset if PartialDB would not
	// return offset any more.
	ResumeDBFrom(r io.Reader, t snap.Transfer, offset int64, checksum func() (uint32, error)) (int64, error)
}

var _ ResumingSnapshotter = (*snap.Store)(nil)

// olderPatience is how long a question waits to see whether an older transfer of the
// snapshot moves, and then again for its end: longer than a paced sender's longest pause,
// and together less than a sender waits for an answer.
func (s *settings) olderPatience() time.Duration {
	return min(s.readTimeout, DefaultConnReadTimeout) * 2 / 5
}

func (s *settings) resuming() ResumingSnapshotter {
	store, _ := s.snapshotter.(ResumingSnapshotter)
	return store
}

// stateExtensions states what the local member can do.
func (s *settings) stateExtensions(h http.Header) {
	if s.snapshotter != nil {
		snapshot.State(h, s.resuming() != nil)
	}
}

// resumption is what makes an incoming snapshot one of the extension.
type resumption struct {
	offset int64 // where the body's part of the database begins
	key    snap.Transfer
}

// resumption returns nil for a snapshot as stock members send it.
func (q *request) resumption() (*resumption, error) {
	p, err := snapshot.PlanOf(q.r.Header)
	if err != nil || !p.Resumable {
		return nil, err
	}
	if q.resuming() == nil {
		return nil, snapshot.ErrNotResuming
	}
	if q.from == 0 {
		return nil, snapshot.BadRequest("a resumed snapshot without %s", headerFrom)
	}
	return &resumption{offset: p.Offset}, q.checkTo(q.r.Header)
}

// begin checks what the head of the body says.
func (r *resumption) begin(q *request, t *incomingSnapshot, m *raftpb.Message, db *databaseReader) error {
	left := db.left - snapshot.TrailerBytes
	if left < 0 || left > math.MaxInt64-r.offset {
		return snapshot.BadRequest("a resumed snapshot without a length that fits")
	}
	meta := m.GetSnapshot().GetMetadata()
	r.key = snap.Transfer{From: uint64(q.from), Term: meta.GetTerm(), Index: meta.GetIndex(), Size: r.offset + left}
	if !q.receiving.name(t, r.key) {
		return snapshot.ErrStillWriting
	}
	db.left, db.trailing = left, true
	t.Jump(r.offset)
	return nil
}

// serveSnapshotOffset says how much of a database is there (extensions: the
// question).
func (q *request) serveSnapshotOffset() error {
	defer q.guard(callback{name: "Snapshotter", peer: q.from})
	store := q.resuming()
	if store == nil {
		return snapshot.ErrNotResuming
	}
	if err := q.checkTo(q.r.Header); err != nil {
		return err
	}
	if q.from == 0 {
		return snapshot.BadRequest("no %s", headerFrom)
	}
	key, err := snapshot.TransferOf(q.r.Header, q.from)
	if err != nil {
		return err
	}
	if err := q.unlessRemoved(q.from, errMemberGone); err != nil {
		return err
	}
	if err := q.endOlder(key); err != nil {
		return err
	}
	if q.receiving.busy() {
		return snapshot.ErrTooMany
	}
	offset, sum := store.PartialDB(key)
	snapshot.StateOffset(q.w.Header(), offset, sum)
	q.w.WriteHeader(http.StatusNoContent)
	return nil
}

// endOlder waits for the end of an older transfer that brings the same. One that does not
// move is interrupted: its sender begins anew, so it has seen the connection break. One
// that moves is another process's, or has bytes that are still to be written.
func (q *request) endOlder(key snap.Transfer) error {
	older := q.receiving.find(key)
	if older == nil {
		return nil
	}
	before := older.Bytes.Load()
	ended, err := q.awaitEnd(older)
	if ended || err != nil {
		return err
	}
	if older.Bytes.Load() != before {
		return snapshot.ErrStillWriting
	}
	q.receiving.cut(older)
	if ended, err = q.awaitEnd(older); !ended && err == nil {
		err = snapshot.ErrStillWriting
	}
	return err
}

// awaitEnd reports whether a transfer has ended in time.
func (q *request) awaitEnd(t *incomingSnapshot) (bool, error) {
	patience := time.NewTimer(q.olderPatience())
	defer patience.Stop()
	select {
	case <-t.done:
		return true, nil
	case <-patience.C:
		return false, nil
	case <-q.ctx.Done():
		return false, ErrStopped
	}
}
