package snapshots_test

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// stuckSeeker is a database of which the nth Seek hangs, as on a network file system that
// is gone, until it is closed, and even then if it is deaf.
type stuckSeeker struct {
	*bytes.Reader
	left   int // calls of Seek before the one that hangs
	deaf   bool
	once   sync.Once
	closed chan struct{}
}

func newStuckSeeker(data []byte, nth int, deaf bool) *stuckSeeker {
	return &stuckSeeker{Reader: bytes.NewReader(data), left: nth - 1, deaf: deaf, closed: make(chan struct{})}
}

func (s *stuckSeeker) Seek(offset int64, whence int) (int64, error) {
	if s.left--; s.left >= 0 {
		return s.Reader.Seek(offset, whence)
	}
	<-s.closed
	return 0, errors.New("stale file handle")
}

func (s *stuckSeeker) free() { s.once.Do(func() { close(s.closed) }) }

func (s *stuckSeeker) Close() error {
	if !s.deaf {
		s.free()
	}
	return nil
}

// TestSnapshotWhoseSeekHangs: a call of Seek is one of the reader as Read is: the transfer
// ends within the stall limit, and at once with its peer or the transport.
func TestSnapshotWhoseSeekHangs(t *testing.T) {
	const size = 8 << 20
	data := testmember.RandomBytes(size)
	ends := map[string]func(a *testmember.Member){
		"stall":  func(*testmember.Member) {},
		"remove": func(a *testmember.Member) { a.RemovePeer(2) },
		"stop":   func(a *testmember.Member) { a.Stop() },
	}
	for name, end := range ends {
		for nth := 1; nth <= 2; nth++ { // before the first attempt, and before one after a cut
			for _, deaf := range []bool{false, true} {
				t.Run(name, func(t *testing.T) {
					dir := t.TempDir()
					bubble.Test(t, func(t *testing.T) {
						p := testmember.NewPair(t, func(tr *rafthttp.Transport) { tr.MaxSnapshots = 1 }, testmember.Receives(testmember.OpenStore(t, dir)))
						p.Net.Link("a", "b").SetBandwidth(4 << 20)
						time.Sleep(time.Second)
						db := newStuckSeeker(data, nth, deaf)
						defer db.free()
						time.AfterFunc(time.Minute, db.free) // so that the test ends
						m := snap.NewMessage(testmember.MsgSnap(2, 1, 7), db, size)
						p.A.SendSnapshot(m)
						time.Sleep(time.Second)
						p.Net.Reset("a", "b")
						time.Sleep(500 * time.Millisecond)
						start := time.Now()
						end(p.A)
						require.False(t, <-m.CloseNotify())
						require.Less(t, time.Since(start), 8*time.Second)
						time.Sleep(3 * time.Second)
						require.Equal(t, []raft.SnapshotStatus{raft.SnapshotFailure}, p.A.Recorder.SnapshotReports())
						if name == "stall" {
							require.ErrorIs(t, <-p.Sent, rafthttp.ErrStalled)
							p.A.SendSnapshot(snap.NewMessage(testmember.MsgSnap(2, 1, 8), io.NopCloser(bytes.NewReader(nil)), 0))
							require.NoError(t, <-p.Sent, "the turn is free")
						}
					})
				})
			}
		}
	}
}

// TestSnapshotErrorWithTheLastBytes: an error that a reader returns together with its last
// bytes is a failure, although the end follows.
func TestSnapshotErrorWithTheLastBytes(t *testing.T) {
	cause := errors.New("checksum of the source differs")
	for _, size := range []int64{1, 1000, 1 << 20} {
		bubble.Test(t, func(t *testing.T) {
			p := testmember.NewPair(t, nil, testmember.Receives(testmember.SavesAll))
			time.Sleep(time.Second)
			rest := bytes.NewReader(testmember.RandomBytes(int(size)))
			db := &testmember.Database{Reader: testmember.ReaderFunc(func(b []byte) (int, error) {
				n, err := rest.Read(b)
				if err == nil && rest.Len() == 0 {
					return n, cause
				}
				return n, err
			})}
			p.A.SendSnapshot(testmember.NewSnapshot(db, size))
			err := <-p.Sent
			require.ErrorIs(t, err, cause)
			require.ErrorIs(t, err, rafthttp.ErrSnapshotReader)
			require.Empty(t, p.B.Recorder.Received())
		})
	}
}

// TestSnapshotWhoseReaderIsSlowAtItsEnd: each Read takes less than the stall limit, also
// those of the last chunk and of the end behind it, so the receiver gets something in time.
func TestSnapshotWhoseReaderIsSlowAtItsEnd(t *testing.T) {
	const chunk, pause = 256 << 10, 3 * time.Second
	for _, size := range []int64{2, chunk, chunk + 1, chunk + 2, 1 << 20} {
		data := testmember.RandomBytes(int(size))
		dir := t.TempDir()
		bubble.Test(t, func(t *testing.T) {
			store := testmember.OpenStore(t, dir)
			p := testmember.NewPair(t, nil, testmember.Receives(store))
			time.Sleep(time.Second)
			p.A.SendSnapshot(snap.NewMessage(testmember.MsgSnap(2, 1, 7), slowSeekable(data, pause), size))
			require.NoError(t, <-p.Sent, size)
			require.Equal(t, 1, p.A.Status().Peers[0].LastSnapshot.Attempts)
			testmember.RequireSaved(t, store, 7, data)
		})
	}
}

// TestSnapshotReaderIsLeftAloneOnceClosed: it is not read any more.
func TestSnapshotReaderIsLeftAloneOnceClosed(t *testing.T) {
	ends := map[string]struct {
		n   int // bytes that the Read brings during which it is closed
		err error
	}{
		"nothing":     {0, nil},
		"the end":     {1000, nil},
		"the failure": {0, io.ErrClosedPipe},
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				p := testmember.NewPair(t, nil, testmember.Receives(testmember.SavesAll))
				time.Sleep(time.Second)
				closed := make(chan struct{})
				reads := 0
				db := &testmember.Database{OnClose: func() { close(closed) }, Reader: testmember.ReaderFunc(func([]byte) (int, error) {
					reads++
					<-closed
					time.Sleep(100 * time.Millisecond)
					return end.n, end.err
				})}
				p.A.SendSnapshot(testmember.NewSnapshot(db, 1000))
				require.ErrorIs(t, <-p.Sent, rafthttp.ErrStalled)
				time.Sleep(time.Second)
				require.Equal(t, 1, reads)
			})
		})
	}
}

// TestSnapshotOfAStalledReaderIsNotThePeer: a reader that stands still says nothing about the
// peer, wherever it does.
func TestSnapshotOfAStalledReaderIsNotThePeer(t *testing.T) {
	const size = 8 << 20
	data := testmember.RandomBytes(size)
	tests := map[string]func() io.ReadCloser{
		"in Read":             func() io.ReadCloser { return testmember.BlockingReader(data[:size/2]) },
		"in Read, deaf":       func() io.ReadCloser { return deafReader(data[:size/2]) },
		"in Seek":             func() io.ReadCloser { return newStuckSeeker(data, 1, false) },
		"in Seek, deaf":       func() io.ReadCloser { return newStuckSeeker(data, 1, true) },
		"in Read, at the end": func() io.ReadCloser { return testmember.BlockingReader(data) },
	}
	for name, reader := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			bubble.Test(t, func(t *testing.T) {
				p := testmember.NewPair(t, nil, testmember.Receives(testmember.OpenStore(t, dir)))
				p.Net.Link("a", "b").SetBandwidth(4 << 20)
				time.Sleep(time.Second)
				db := reader()
				p.A.SendSnapshot(snap.NewMessage(testmember.MsgSnap(2, 1, 7), db, size))
				err := <-p.Sent
				require.ErrorIs(t, err, rafthttp.ErrStalled)
				require.ErrorIs(t, err, rafthttp.ErrSnapshotReader)
				time.Sleep(time.Second)
				require.Zero(t, p.A.Recorder.Unreachables(2))
				if s, ok := db.(interface{ free() }); ok {
					s.free()
				}
			})
		})
	}
}

// deaf is a database of which Read hangs until it is freed, whatever Close does.
type deaf struct{ *testmember.Database }

func (d deaf) free()        { _ = d.Database.Close() }
func (d deaf) Close() error { return nil }

func deafReader(data []byte) deaf { return deaf{testmember.BlockingReader(data)} }
