package testmember

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// Saver is a Snapshotter.
type Saver func(io.Reader, uint64) (int64, error)

// SaveDBFrom implements rafthttp.Snapshotter.
func (f Saver) SaveDBFrom(r io.Reader, id uint64) (int64, error) { return f(r, id) }

// SavesAll takes every database and forgets it.
var SavesAll = Saver(func(r io.Reader, _ uint64) (int64, error) { return io.Copy(io.Discard, r) })

// Receives gives a member a Snapshotter.
func Receives(s rafthttp.Snapshotter) func(*rafthttp.Transport) {
	return func(tr *rafthttp.Transport) { tr.Snapshotter = s }
}

// Database is the ReadCloser of a snapshot; it counts how often it is closed.
type Database struct {
	io.Reader
	OnClose func()
	Closes  atomic.Int32
}

// Close counts, and returns an error that nobody has to handle.
func (d *Database) Close() error {
	d.Closes.Add(1)
	if d.OnClose != nil {
		d.OnClose()
	}
	return errors.New("of no interest")
}

// BlockingReader returns data, and then blocks in Read until it is closed.
func BlockingReader(data []byte) *Database {
	closed := make(chan struct{})
	rest := bytes.NewReader(data)
	return &Database{
		Reader: ReaderFunc(func(p []byte) (int, error) {
			if rest.Len() > 0 {
				return rest.Read(p)
			}
			<-closed
			return 0, io.ErrClosedPipe
		}),
		OnClose: func() { close(closed) },
	}
}

// ReaderFunc is an io.Reader.
type ReaderFunc func([]byte) (int, error)

// Read implements io.Reader.
func (f ReaderFunc) Read(p []byte) (int, error) { return f(p) }

// RandomBytes returns n bytes, always the same.
func RandomBytes(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return b
}

// NewSnapshot is a snapshot for member 2 whose database is declared to have size bytes.
func NewSnapshot(db *Database, size int64) *snap.Message {
	return snap.NewMessage(MsgSnap(2, 1, 7), db, size)
}

// RequireEnd requires that m has come, or comes, to exactly one end: one value of CloseNotify, one Close, and these reports to
// raft. Time of the bubble passes.
func RequireEnd(t *testing.T, m *snap.Message, db *Database, ok bool, rec *Recorder, reports ...raft.SnapshotStatus) {
	t.Helper()
	require.Equal(t, ok, <-m.CloseNotify(), "CloseNotify")
	time.Sleep(65 * time.Second) // whatever may come too much has come then
	select {
	case <-m.CloseNotify():
		require.Fail(t, "a second value from CloseNotify")
	default:
	}
	require.EqualValues(t, 1, db.Closes.Load(), "closes of the reader")
	require.Equal(t, reports, rec.SnapshotReports())
}

// SnapshotTo is a snapshot with an empty database.
func SnapshotTo(id types.ID) *snap.Message {
	m := Message(raftpb.MsgSnap, id)
	m.Snapshot = &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: new(uint64(1)), Term: new(uint64(1))}}
	return snap.NewMessage(m, http.NoBody, 0)
}

// PlainStore hides that a store can resume, so that snapshots are sent as to a stock member.
type PlainStore struct{ rafthttp.Snapshotter }

// ReadString returns everything that r has.
func ReadString(t *testing.T, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	require.NoError(t, err)
	return string(b)
}

// Throttled returns a reader that gives n bytes after each pause.
func Throttled(data []byte, n int, pause time.Duration) *Database {
	rest := bytes.NewReader(data)
	left := 0
	return &Database{Reader: ReaderFunc(func(p []byte) (int, error) {
		if left == 0 && rest.Len() > 0 {
			time.Sleep(pause)
			left = n
		}
		m, err := rest.Read(p[:min(len(p), max(left, 1))])
		left -= m
		return m, err
	})}
}

// Seekable is a database that can go back, and counts what is read of it.
type Seekable struct {
	*bytes.Reader
	Closes  atomic.Int32
	OnRead  func(at int64)
	OnClose func()
}

// Read calls OnRead with the offset first.
func (s *Seekable) Read(p []byte) (int, error) {
	if s.OnRead != nil {
		s.OnRead(s.Size() - int64(s.Len()))
	}
	return s.Reader.Read(p)
}

// Close counts.
func (s *Seekable) Close() error {
	s.Closes.Add(1)
	if s.OnClose != nil {
		s.OnClose()
	}
	return nil
}

// OpenStore opens a store of databases in a folder.
func OpenStore(t *testing.T, dir string) *snap.Store {
	t.Helper()
	store, err := snap.Open(dir)
	require.NoError(t, err)
	return store
}

// RequireSaved requires that the store has this database.
func RequireSaved(t *testing.T, store *snap.Store, index uint64, data []byte) {
	t.Helper()
	path, err := store.DBFilePath(index)
	require.NoError(t, err)
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, got), "the database differs")
}
