package rafthttp

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/raft/v3/raftpb"

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

// snapshotOffsetPath is asked how much of a snapshot is there (extensions: the
// question).
const snapshotOffsetPath = RaftSnapshotPrefix + "/offset"

// Headers that stock members neither send nor look at (extensions).
const (
	headerExtensions       = "X-Raft-Extensions"
	headerSnapshotTerm     = "X-Raft-Snapshot-Term"
	headerSnapshotIndex    = "X-Raft-Snapshot-Index"
	headerSnapshotSize     = "X-Raft-Snapshot-Size"
	headerSnapshotOffset   = "X-Raft-Snapshot-Offset"
	headerSnapshotChecksum = "X-Raft-Snapshot-Checksum"
)

// Names of extensions in headerExtensions.
const (
	extensionSnapshot = "snapshot-1"
	extensionWorking  = "snapshot-working-1"
)

var (
	// errSnapshotOffset refuses a snapshot that goes on where nothing ends.
	errSnapshotOffset = errors.New("the snapshot is not there up to this offset")
	// errStillWriting refuses a snapshot of which an earlier part is still on its way to
	// the disk.
	errStillWriting = errors.New("still writing an earlier part of this snapshot")
	errNoResuming   = &badRequest{http.StatusNotFound, "this member does not resume snapshots"}
)

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
	switch {
	case s.resuming() != nil:
		h.Set(headerExtensions, extensionSnapshot+", "+extensionWorking)
	case s.snapshotter != nil:
		h.Set(headerExtensions, extensionWorking)
	}
}

// statesExtension reports whether the member that sent h has an extension.
func statesExtension(h http.Header, name string) bool {
	for _, list := range h.Values(headerExtensions) {
		names := strings.Split(list, ",")
		if slices.ContainsFunc(names, func(stated string) bool { return strings.TrimSpace(stated) == name }) {
			return true
		}
	}
	return false
}

// resumption is what makes an incoming snapshot one of the extension.
type resumption struct {
	offset int64 // where the body's part of the database begins
	key    snap.Transfer
}

// resumption returns nil for a snapshot as stock members send it.
func (q *request) resumption() (*resumption, error) {
	if q.r.Header.Get(headerSnapshotOffset) == "" {
		return nil, nil
	}
	if q.resuming() == nil {
		return nil, errNoResuming
	}
	offset, err := sizeHeader(q.r.Header, headerSnapshotOffset)
	if err != nil {
		return nil, err
	}
	if q.from == 0 {
		return nil, &badRequest{http.StatusBadRequest, "a resumed snapshot without " + headerFrom}
	}
	return &resumption{offset: offset}, q.checkTo(q.r.Header)
}

// begin checks what the head of the body says.
func (r *resumption) begin(q *request, t *incomingSnapshot, m *raftpb.Message, db *databaseReader) error {
	left := db.left - trailerSize
	if left < 0 || left > math.MaxInt64-r.offset {
		return &badRequest{http.StatusBadRequest, "a resumed snapshot without a length that fits"}
	}
	meta := m.GetSnapshot().GetMetadata()
	r.key = snap.Transfer{From: uint64(q.from), Term: meta.GetTerm(), Index: meta.GetIndex(), Size: r.offset + left}
	if !q.receiving.name(t, r.key) {
		return errStillWriting
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
		return errNoResuming
	}
	if err := q.checkTo(q.r.Header); err != nil {
		return err
	}
	key, err := q.transferKey()
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
		return errBusy
	}
	offset, sum := store.PartialDB(key)
	q.w.Header().Set(headerSnapshotOffset, strconv.FormatInt(offset, 10))
	q.w.Header().Set(headerSnapshotChecksum, fmt.Sprintf("%08x", sum))
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
		return errStillWriting
	}
	q.receiving.cut(older)
	if ended, err = q.awaitEnd(older); !ended && err == nil {
		err = errStillWriting
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

func (q *request) transferKey() (t snap.Transfer, err error) {
	if q.from == 0 {
		return t, &badRequest{http.StatusBadRequest, "no " + headerFrom}
	}
	t.From = uint64(q.from)
	if t.Term, err = uintHeader(q.r.Header, headerSnapshotTerm); err != nil {
		return t, err
	}
	if t.Index, err = uintHeader(q.r.Header, headerSnapshotIndex); err != nil {
		return t, err
	}
	t.Size, err = sizeHeader(q.r.Header, headerSnapshotSize)
	return t, err
}

func uintHeader(h http.Header, name string) (uint64, error) {
	n, err := strconv.ParseUint(h.Get(name), 10, 64)
	if err != nil {
		return 0, &badRequest{http.StatusBadRequest, fmt.Sprintf("header %s: not a number: %.64q", name, h.Get(name))}
	}
	return n, nil
}

// sizeHeader reads a header that is a number of bytes.
func sizeHeader(h http.Header, name string) (int64, error) {
	n, err := uintHeader(h, name)
	if err == nil && n > math.MaxInt64 {
		err = &badRequest{http.StatusBadRequest, fmt.Sprintf("header %s: out of range: %.64q", name, h.Get(name))}
	}
	return int64(n), err
}
