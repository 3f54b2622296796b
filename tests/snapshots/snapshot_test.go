package snapshots_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/snap"
)

func TestSnapshotArrivesWhole(t *testing.T) {
	for _, size := range []int{0, 1, 64<<10 - 1, 64 << 10, 3<<20 + 17} {
		dir := t.TempDir()
		bubble.Test(t, func(t *testing.T) {
			store, err := snap.Open(dir)
			require.NoError(t, err)
			p := testmember.NewPair(t, nil, testmember.Receives(store))
			data := testmember.RandomBytes(size)
			var saved atomic.Bool // before Process
			p.B.Recorder.OnProcess = func(_ context.Context, m *raftpb.Message) error {
				path, err := store.DBFilePath(7)
				saved.Store(err == nil && path != "")
				p.B.Recorder.Keep(m)
				return nil
			}
			db := &testmember.Database{Reader: bytes.NewReader(data)}
			m := testmember.NewSnapshot(db, int64(size))
			p.A.SendSnapshot(m)
			testmember.RequireEnd(t, m, db, true, p.A.Recorder, raft.SnapshotFinish)
			require.NoError(t, <-p.Sent)

			require.True(t, saved.Load(), "processed before it was saved")
			require.Len(t, p.B.Recorder.Received(), 1)
			require.True(t, proto.Equal(m.Message, p.B.Recorder.Received()[0]))
			path, err := store.DBFilePath(7)
			require.NoError(t, err)
			got, err := os.ReadFile(path)
			require.NoError(t, err)
			require.True(t, bytes.Equal(data, got), "the database differs")
		})
	}
}

func TestSnapshotRefused(t *testing.T) {
	fails := func(err error) func(*testmember.Member) {
		return func(b *testmember.Member) {
			b.Recorder.OnProcess = func(context.Context, *raftpb.Message) error { return err }
		}
	}
	tests := []struct {
		name    string
		tune    func(*rafthttp.Transport)
		prepare func(b *testmember.Member)
		code    int
		is      error
		errorC  bool
	}{
		{name: "no snapshotter", code: 501},
		{name: "not saved", tune: testmember.Receives(testmember.Saver(func(io.Reader, uint64) (int64, error) { return 0, errors.New("disk full") })), code: 500},
		{name: "not processed", tune: testmember.Receives(testmember.SavesAll), prepare: fails(errors.New("no")), code: 500},
		{name: "own answer", tune: testmember.Receives(testmember.SavesAll), prepare: fails(testmember.Teapot{}), code: 418},
		{name: "removed", tune: testmember.Receives(testmember.SavesAll), prepare: fails(rafthttp.ErrMemberRemoved), is: rafthttp.ErrMemberRemoved, errorC: true},
		{name: "other cluster", tune: func(tr *rafthttp.Transport) { tr.ClusterID = 0xbad }, is: rafthttp.ErrClusterIDMismatch},
		{name: "too old", tune: func(tr *rafthttp.Transport) { tr.ServerVersion, tr.MinClusterVersion = "4.0.0", "4.0.0" }, is: rafthttp.ErrIncompatibleVersion},
		{name: "stopped", prepare: func(b *testmember.Member) { b.Stop() }, code: 503},
	}
	for _, size := range []int{10, 1 << 20} { // sent before the answer comes, or interrupted by it
		for _, tc := range tests {
			t.Run(tc.name, func(t *testing.T) {
				bubble.Test(t, func(t *testing.T) {
					errorC := make(chan error, 1)
					p := testmember.NewPair(t, func(tr *rafthttp.Transport) { tr.ErrorC = errorC }, tc.tune)
					if tc.prepare != nil {
						tc.prepare(p.B)
					}
					db := &testmember.Database{Reader: bytes.NewReader(testmember.RandomBytes(size))}
					m := testmember.NewSnapshot(db, int64(size))
					p.A.SendSnapshot(m)
					testmember.RequireEnd(t, m, db, false, p.A.Recorder, raft.SnapshotFailure)
					err := <-p.Sent
					if tc.is != nil {
						require.ErrorIs(t, err, tc.is)
					} else {
						var status *rafthttp.StatusError
						require.ErrorAs(t, err, &status)
						require.Equal(t, tc.code, status.Code)
					}
					if tc.errorC {
						require.ErrorIs(t, <-errorC, rafthttp.ErrMemberRemoved)
					}
					require.Empty(t, errorC)
				})
			})
		}
	}
}

func TestSnapshotReaderFails(t *testing.T) {
	cause := errors.New("bad sector")
	data := func() io.Reader { return bytes.NewReader(testmember.RandomBytes(100_000)) }
	tests := []struct {
		name   string
		reader io.Reader
		size   int64
		is     error
		text   string
	}{
		{"error", io.MultiReader(data(), iotest.ErrReader(cause)), 200_000, cause, ""},
		{"error at once", iotest.ErrReader(cause), 10, cause, ""},
		{"error instead of the end", io.MultiReader(data(), iotest.ErrReader(cause)), 100_000, cause, ""},
		{"shorter", data(), 100_001, rafthttp.ErrSnapshotSize, "1 bytes early"},
		{"empty", strings.NewReader(""), 1, rafthttp.ErrSnapshotSize, ""},
		{"longer", data(), 99_999, rafthttp.ErrSnapshotSize, "behind"},
		{"longer by chunks", data(), 64 << 10, rafthttp.ErrSnapshotSize, "behind"},
		{"longer than nothing", strings.NewReader("x"), 0, rafthttp.ErrSnapshotSize, "behind"},
		{"negative size", strings.NewReader("x"), -1, rafthttp.ErrSnapshotSize, "-1"},
		{"panic", io.MultiReader(data(), testmember.ReaderFunc(func([]byte) (int, error) { panic("in Read") })), 200_000, nil, "in Read"},
		{"nothing and no error", testmember.ReaderFunc(func([]byte) (int, error) { return 0, nil }), 10, io.ErrNoProgress, ""},
		{"more than asked for", testmember.ReaderFunc(func(p []byte) (int, error) { return len(p) + 1, nil }), 10, nil, "invalid count"},
		{"less than nothing", testmember.ReaderFunc(func([]byte) (int, error) { return -1, nil }), 10, nil, "invalid count"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				var whole atomic.Int32
				p := testmember.NewPair(t, nil, testmember.Receives(testmember.Saver(func(r io.Reader, _ uint64) (int64, error) {
					n, err := io.Copy(io.Discard, r)
					if err == nil {
						whole.Add(1)
					}
					return n, err
				})))
				time.Sleep(time.Second)
				active := p.A.ActiveSince(2)
				db := &testmember.Database{Reader: tc.reader}
				m := testmember.NewSnapshot(db, tc.size)
				p.A.SendSnapshot(m)
				testmember.RequireEnd(t, m, db, false, p.A.Recorder, raft.SnapshotFailure)
				err := <-p.Sent
				if tc.is != nil {
					require.ErrorIs(t, err, tc.is)
				}
				require.ErrorContains(t, err, tc.text)
				require.Zero(t, whole.Load(), "the receiver took it for whole")
				require.Empty(t, p.B.Recorder.Received())
				require.Equal(t, active, p.A.ActiveSince(2))
			})
		})
	}
}

func TestSnapshotInterrupted(t *testing.T) {
	tests := []struct {
		name  string
		event func(p *testmember.Pair)
		is    error
	}{
		{"network cut", func(p *testmember.Pair) { p.Net.Partition([]string{"a"}, []string{"b"}) }, rafthttp.ErrStalled},
		{"link to the receiver cut", func(p *testmember.Pair) { p.Net.Link("a", "b").Cut() }, nil},
		{"connection reset", func(p *testmember.Pair) { p.Net.Reset("a", "b") }, nil},
		{"receiver crashed", func(p *testmember.Pair) { p.Net.Host("b").Crash() }, nil},
		{"receiver stopped", func(p *testmember.Pair) { p.B.Stop() }, nil},
		{"RemovePeer", func(p *testmember.Pair) { p.A.RemovePeer(2) }, rafthttp.ErrPeerRemoved},
		{"RemoveAllPeers", func(p *testmember.Pair) { p.A.RemoveAllPeers() }, rafthttp.ErrPeerRemoved},
		{"Stop", func(p *testmember.Pair) { go p.A.Stop() }, rafthttp.ErrStopped},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				saved := make(chan error, 1)
				p := testmember.NewPair(t, nil, testmember.Receives(testmember.Saver(func(r io.Reader, _ uint64) (int64, error) {
					n, err := io.Copy(io.Discard, r)
					saved <- err
					return n, err
				})))
				// The reader goes on forever, so that only the event can end it.
				read := 0
				var once sync.Once
				db := &testmember.Database{Reader: testmember.ReaderFunc(func(b []byte) (int, error) {
					if read += len(b); read > 1<<20 {
						once.Do(func() { tc.event(p) })
					}
					return len(b), nil
				})}
				m := testmember.NewSnapshot(db, 1<<40)
				p.A.SendSnapshot(m)
				testmember.RequireEnd(t, m, db, false, p.A.Recorder, raft.SnapshotFailure)
				err := <-p.Sent
				require.Error(t, err)
				if tc.is != nil {
					require.ErrorIs(t, err, tc.is)
				}
				require.Error(t, <-saved, "the receiver took it for whole")
				require.Empty(t, p.B.Recorder.Received())
			})
		})
	}
}

func TestSnapshotStalls(t *testing.T) {
	const timeout = 2 * time.Second
	tests := []struct {
		name     string
		saver    func(release <-chan struct{}) testmember.Saver
		db       func(release <-chan struct{}) *testmember.Database
		min, max time.Duration
	}{
		{
			name: "receiver reads nothing",
			saver: func(release <-chan struct{}) testmember.Saver {
				return func(io.Reader, uint64) (int64, error) { <-release; return 0, errors.New("too late") }
			},
			min: timeout, max: timeout * 3 / 2,
		},
		{
			name: "receiver does not answer",
			saver: func(release <-chan struct{}) testmember.Saver {
				return func(r io.Reader, _ uint64) (int64, error) {
					n, err := io.Copy(io.Discard, r)
					<-release
					return n, err
				}
			},
			min: 20 * time.Second, max: 20 * time.Second,
		},
		{
			name: "reader blocks until closed",
			db: func(<-chan struct{}) *testmember.Database {
				return testmember.BlockingReader(testmember.RandomBytes(100_000))
			},
			min: timeout, max: timeout * 3 / 2,
		},
		{
			name: "reader blocks even when closed",
			db: func(release <-chan struct{}) *testmember.Database {
				return &testmember.Database{Reader: testmember.ReaderFunc(func([]byte) (int, error) { <-release; return 0, io.EOF })}
			},
			min: timeout, max: timeout*3/2 + time.Second,
		},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				defer close(release)
				s := testmember.SavesAll
				if tc.saver != nil {
					s = tc.saver(release)
				}
				db := &testmember.Database{Reader: bytes.NewReader(testmember.RandomBytes(1 << 20))}
				if tc.db != nil {
					db = tc.db(release)
				}
				p := testmember.NewPair(t, func(tr *rafthttp.Transport) {
					tr.ReadTimeout, tr.SnapshotAnswerTimeout = timeout, 20*time.Second
				}, nil)
				c := p.Start(t, "c", 3, testmember.Receives(s))
				c.Server.Handler = unhijackable(c.Server.Handler) // it cannot say that it is at work
				p.A.AddPeer(3, []string{c.URL})
				m := snap.NewMessage(testmember.MsgSnap(3, 1, 7), db, 1<<20)
				start := time.Now()
				p.A.SendSnapshot(m)
				err := <-p.Sent
				require.ErrorIs(t, err, rafthttp.ErrStalled)
				require.GreaterOrEqual(t, time.Since(start), tc.min)
				require.LessOrEqual(t, time.Since(start), tc.max)
				testmember.RequireEnd(t, m, db, false, p.A.Recorder, raft.SnapshotFailure)
			})
		})
	}
}
