package snapshots_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/snap"
)

func filesIn(t *testing.T, dir string) (names []string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, f := range files {
		names = append(names, f.Name())
	}
	return names
}

// receiver gives a member a Snapshotter, and changes its Raft before it starts.
func receiver(s rafthttp.Snapshotter, change func(*testmember.Recorder)) func(*rafthttp.Transport) {
	return func(tr *rafthttp.Transport) {
		tr.Snapshotter = s
		change(tr.Raft.(*testmember.Recorder))
	}
}

// TestSnapshotRefusedBeforeItsDatabase: what can be refused by the message at the head of a snapshot is refused by that.
// No byte of the database is waited for, and nothing is saved.
func TestSnapshotRefusedBeforeItsDatabase(t *testing.T) {
	tests := []struct {
		name string
		to   uint64
		from string // header
		code int
		body string
	}{
		{"of a removed member", 1, "3", 403, "removed member: the member has been permanently removed from the cluster\n"},
		{"of a removed member that states no id", 1, "", 403, "removed member: the member has been permanently removed from the cluster\n"},
		{"for another member", 4, "2", 412, "to field mismatch\n"},
	}
	for _, tc := range tests {
		for _, size := range []int{1000, 1 << 30} { // the connection of a large one is taken over from the server
			t.Run(tc.name, func(t *testing.T) {
				dir := t.TempDir()
				bubble.Test(t, func(t *testing.T) {
					p := testmember.NewPair(t, receiver(testmember.OpenStore(t, dir), func(r *testmember.Recorder) {
						r.Removed = func(id uint64) bool { return id == 3 }
					}), nil)
					c, err := p.Net.Host("c").DialContext(t.Context(), "tcp", "a:80")
					require.NoError(t, err)
					defer c.Close()
					from := uint64(2)
					if tc.code == 403 {
						from = 3
					}
					m := testmember.MsgSnap(1, 0, 7)
					m.To, m.From = &tc.to, &from
					head := testmember.ReadString(t, testmember.SnapshotBody(t, m, ""))
					start := time.Now()
					h := testmember.PeerHeader(map[string]string{"X-Server-From": tc.from, "Connection": "close"})
					_, err = io.WriteString(c, testmember.RequestHead("POST", "/raft/snapshot", h, len(head)+size)+head)
					require.NoError(t, err)
					got := testmember.ReadAnswer(t, c)
					require.Equal(t, tc.code, got.StatusCode)
					require.Equal(t, tc.body, got.Body)
					require.Less(t, time.Since(start), time.Second, "it waited for the database")
					require.Empty(t, p.A.Recorder.Received())
				})
				require.Empty(t, filesIn(t, dir))
			})
		}
	}
}

// TestSnapshotNotUsedIsNotKept: a database whose message is not processed after all does not stay on the disk, as it is
// sent, saved and refused again and again.
func TestSnapshotNotUsedIsNotKept(t *testing.T) {
	var removed atomic.Bool
	tests := map[string]func(context.Context, *testmember.Pair) error{
		"an error of Process": func(context.Context, *testmember.Pair) error { return errors.New("no") },
		"Process says that the member was removed": func(context.Context, *testmember.Pair) error {
			return rafthttp.ErrMemberRemoved
		},
		"Process takes too long": func(ctx context.Context, _ *testmember.Pair) error {
			<-ctx.Done()
			return ctx.Err()
		},
		"the transport stops": func(ctx context.Context, p *testmember.Pair) error {
			go p.B.Stop()
			<-ctx.Done()
			return ctx.Err()
		},
		"the member is removed while it sends": nil,
	}
	for name, process := range tests {
		for _, resumes := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				dir := t.TempDir()
				bubble.Test(t, func(t *testing.T) {
					removed.Store(false)
					store := testmember.OpenStore(t, dir)
					var s rafthttp.Snapshotter = store
					if !resumes {
						s = discarding{store}
					}
					var p *testmember.Pair
					p = testmember.NewPair(t, nil, receiver(s, func(r *testmember.Recorder) {
						r.Removed = func(uint64) bool { return removed.Load() }
						r.OnProcess = func(ctx context.Context, m *raftpb.Message) error {
							if m.GetType() == raftpb.MsgSnap {
								return process(ctx, p)
							}
							return nil
						}
					}))
					time.Sleep(time.Second)
					m := snap.NewMessage(testmember.MsgSnap(2, 1, 7), breaking(testmember.RandomBytes(1<<20), func() { removed.Store(process == nil) }, 1<<19), 1<<20)
					p.A.SendSnapshot(m)
					require.False(t, <-m.CloseNotify())
					synctest.Wait()
					_, err := store.DBFilePath(7)
					require.ErrorIs(t, err, snap.ErrNoDBSnapshot)
				})
				require.Empty(t, filesIn(t, dir))
			})
		}
	}
}

// A server may call Stop under a lock that IsIDRemoved takes. Stop does not wait for that, and no callback comes later.
func TestSnapshotNotDiscardedAfterStop(t *testing.T) {
	dir := t.TempDir()
	bubble.Test(t, func(t *testing.T) {
		store := counting{Store: testmember.OpenStore(t, dir), saves: new(atomic.Int32), discards: new(atomic.Int32)}
		unlocked := make(chan struct{})
		p := testmember.NewPair(t, nil, receiver(store, func(r *testmember.Recorder) {
			r.Removed = func(uint64) bool {
				if store.saves.Load() > 0 {
					<-unlocked
				}
				return false
			}
		}))
		time.Sleep(time.Second)
		m := testmember.NewSnapshot(&testmember.Database{Reader: bytes.NewReader([]byte("db"))}, 2)
		p.A.SendSnapshot(m)
		time.Sleep(time.Second)
		require.EqualValues(t, 1, store.saves.Load())
		p.B.Stop()
		require.Zero(t, store.discards.Load())
		close(unlocked)
		require.False(t, <-m.CloseNotify())
		require.Zero(t, store.discards.Load())
		require.NoError(t, store.Close())
	})
}

// TestSnapshotSavedDuringStopIsDiscarded: Stop waits for who saves a database, and its store is told that the message was not
// processed, without IsIDRemoved being asked, which Stop does not wait for.
func TestSnapshotSavedDuringStopIsDiscarded(t *testing.T) {
	dir := t.TempDir()
	bubble.Test(t, func(t *testing.T) {
		saving, stopping := make(chan struct{}), make(chan struct{})
		store := testmember.OpenStore(t, dir)
		p := testmember.NewPair(t, nil, testmember.Receives(preparing{store, func(context.Context, *raftpb.Message, int64) (snap.Saver, error) {
			close(saving)
			<-stopping
			return discarding{store}, nil
		}}))
		time.Sleep(time.Second)
		m := testmember.NewSnapshot(&testmember.Database{Reader: bytes.NewReader([]byte("db"))}, 2)
		p.A.SendSnapshot(m)
		<-saving
		stopped := make(chan struct{})
		go func() { p.B.Stop(); close(stopped) }()
		time.Sleep(time.Second)
		close(stopping)
		<-stopped
		require.Empty(t, filesIn(t, dir))
		require.Empty(t, p.B.Recorder.Received())
		require.False(t, <-m.CloseNotify())
		require.NoError(t, store.Close())
	})
}

// discarding is a store without resumption.
type discarding struct{ s *snap.Store }

func (d discarding) SaveDBFrom(r io.Reader, id uint64) (int64, error) { return d.s.SaveDBFrom(r, id) }
func (d discarding) DiscardDB(id uint64, cause error)                 { d.s.DiscardDB(id, cause) }

// preparing is a store that is asked before.
type preparing struct {
	*snap.Store
	prepare func(context.Context, *raftpb.Message, int64) (snap.Saver, error)
}

func (p preparing) PrepareDB(ctx context.Context, m *raftpb.Message, size int64) (snap.Saver, error) {
	return p.prepare(ctx, m, size)
}

// counting is a Snapshotter, with the Store's methods, whose own SaveDBFrom and ResumeDBFrom have to be called.
type counting struct {
	*snap.Store
	saves, discards *atomic.Int32
}

func (c counting) SaveDBFrom(r io.Reader, id uint64) (int64, error) {
	c.saves.Add(1)
	return c.Store.SaveDBFrom(r, id)
}

func (c counting) ResumeDBFrom(r io.Reader, t snap.Transfer, offset int64, sum func() (uint32, error)) (int64, error) {
	c.saves.Add(1)
	return c.Store.ResumeDBFrom(r, t, offset, sum)
}

func (c counting) DiscardDB(id uint64, cause error) {
	c.discards.Add(1)
	c.Store.DiscardDB(id, cause)
}

// TestSnapshotPrepared: a Snapshotter that wants to know of a database before it comes is told of its message and its size,
// also where only the rest of it comes, and may let another one save it.
func TestSnapshotPrepared(t *testing.T) {
	const size = 4 << 20
	data := testmember.RandomBytes(size)
	dirs := [2]string{t.TempDir(), t.TempDir()}
	bubble.Test(t, func(t *testing.T) {
		type call struct{ index, from, size int64 }
		var calls []call
		store := testmember.OpenStore(t, dirs[0])
		other := counting{Store: testmember.OpenStore(t, dirs[1]), saves: new(atomic.Int32), discards: new(atomic.Int32)}
		var refuses atomic.Bool
		p := testmember.NewPair(t, nil, receiver(preparing{store, func(_ context.Context, m *raftpb.Message, size int64) (snap.Saver, error) {
			index := m.GetSnapshot().GetMetadata().GetIndex()
			calls = append(calls, call{int64(index), int64(m.GetFrom()), size})
			switch index {
			case 8:
				return other, nil
			case 9:
				return (*snap.Store)(nil), nil // a variable that was not set
			}
			return nil, nil
		}}, func(r *testmember.Recorder) {
			r.OnProcess = func(context.Context, *raftpb.Message) error {
				if refuses.Load() {
					return errors.New("no")
				}
				return nil
			}
		}))
		p.Net.Link("a", "b").SetBandwidth(4 << 20)
		time.Sleep(time.Second)
		send := func(m *snap.Message) bool {
			p.A.SendSnapshot(m)
			return <-m.CloseNotify()
		}
		require.True(t, send(snap.NewMessage(testmember.MsgSnap(2, 1, 7), breaking(data, func() { p.Net.Reset("a", "b") }, 1<<20), size)))
		require.Equal(t, []call{{7, 1, size}, {7, 1, size}}, calls, "the whole size, also of the rest")
		testmember.RequireSaved(t, store, 7, data)

		require.True(t, send(snap.NewMessage(testmember.MsgSnap(2, 1, 8), &testmember.Seekable{Reader: bytes.NewReader(data)}, size)))
		testmember.RequireSaved(t, other.Store, 8, data)
		_, err := store.DBFilePath(8)
		require.ErrorIs(t, err, snap.ErrNoDBSnapshot)
		require.EqualValues(t, 1, other.saves.Load())

		refuses.Store(true)
		require.False(t, send(snap.NewMessage(testmember.MsgSnap(2, 1, 8), &testmember.Seekable{Reader: bytes.NewReader(data[1:])}, size-1)))
		require.EqualValues(t, 1, other.discards.Load(), "it is told that has saved it")
		testmember.RequireSaved(t, other.Store, 8, data[1:])

		calls = nil
		refuses.Store(false)
		c, err := p.Net.Host("c").DialContext(t.Context(), "tcp", "b:80")
		require.NoError(t, err)
		defer c.Close()
		_, err = io.WriteString(c, "POST /raft/snapshot HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\nX-Server-From: 1\r\n"+
			"X-Server-Version: 3.7.0\r\nX-Etcd-Cluster-Id: "+testmember.ClusterID.String()+"\r\n\r\n")
		require.NoError(t, err)
		body := testmember.ReadString(t, testmember.SnapshotBody(t, testmember.MsgSnap(2, 1, 9), "db"))
		_, err = fmt.Fprintf(c, "%x\r\n%s\r\n0\r\n\r\n", len(body), body)
		require.NoError(t, err)
		testmember.ReadAnswer(t, c)
		require.Equal(t, []call{{9, 1, -1}}, calls)
		testmember.RequireSaved(t, store, 9, []byte("db"))
	})
}

// A wrapper of a store, which has its PrepareDB, is not bypassed.
func TestSnapshotPreparedByAWrapper(t *testing.T) {
	dir := t.TempDir()
	bubble.Test(t, func(t *testing.T) {
		store := counting{Store: testmember.OpenStore(t, dir), saves: new(atomic.Int32), discards: new(atomic.Int32)}
		p := testmember.NewPair(t, nil, testmember.Receives(store))
		time.Sleep(time.Second)
		m := testmember.NewSnapshot(&testmember.Database{Reader: bytes.NewReader([]byte("db"))}, 2)
		p.A.SendSnapshot(m)
		require.True(t, <-m.CloseNotify())
		require.EqualValues(t, 1, store.saves.Load())
	})
}

// TestSnapshotPrepareRefuses: the sender is told why, before it has sent the database.
func TestSnapshotPrepareRefuses(t *testing.T) {
	const size = 16 << 20
	tests := []struct {
		name    string
		prepare func(context.Context, *raftpb.Message, int64) (snap.Saver, error)
		is      error
	}{
		{"for want of room", func(context.Context, *raftpb.Message, int64) (snap.Saver, error) {
			return nil, fmt.Errorf("for this: %w", syscall.ENOSPC)
		}, rafthttp.ErrSnapshotDiskFull},
		{"for its own reasons", func(context.Context, *raftpb.Message, int64) (snap.Saver, error) {
			return testmember.SavesAll, errors.New("no")
		}, rafthttp.ErrSnapshotNotSaved},
		{"by waiting", func(ctx context.Context, _ *raftpb.Message, _ int64) (snap.Saver, error) {
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}, rafthttp.ErrStalled},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			bubble.Test(t, func(t *testing.T) {
				received := make(chan error, 10)
				p := testmember.NewPair(t, nil, func(tr *rafthttp.Transport) {
					tr.Snapshotter = preparing{testmember.OpenStore(t, dir), tc.prepare}
					tr.Observer = &rafthttp.Observer{SnapshotReceived: func(_ types.ID, _ uint64, _ int64, _ time.Duration, err error) { received <- err }}
				})
				p.Net.Link("a", "b").SetBandwidth(1 << 20)
				time.Sleep(time.Second)
				m := snap.NewMessage(testmember.MsgSnap(2, 1, 7), &testmember.Seekable{Reader: bytes.NewReader(testmember.RandomBytes(size))}, size)
				p.A.SendSnapshot(m)
				require.False(t, <-m.CloseNotify())
				require.ErrorIs(t, <-p.Sent, tc.is)
				require.Error(t, <-received)
				require.Less(t, p.A.Status().Peers[0].SentBytes, uint64(8<<20), "of 16 MiB, at 1 MiB/s")
				require.Empty(t, p.B.Recorder.Received())
			})
			require.Empty(t, filesIn(t, dir))
		})
	}
}

// PrepareDB ends with the Transport.
func TestSnapshotPrepareStopped(t *testing.T) {
	dir := t.TempDir()
	bubble.Test(t, func(t *testing.T) {
		var cause error
		p := testmember.NewPair(t, nil, testmember.Receives(nil))
		c := p.Start(t, "c", 3, testmember.Receives(preparing{testmember.OpenStore(t, dir), func(ctx context.Context, _ *raftpb.Message, _ int64) (snap.Saver, error) {
			<-ctx.Done()
			cause = context.Cause(ctx)
			return nil, cause
		}}))
		p.A.AddPeer(3, []string{c.URL})
		time.Sleep(time.Second)
		m := snap.NewMessage(testmember.MsgSnap(3, 1, 7), &testmember.Seekable{Reader: bytes.NewReader([]byte("db"))}, 2)
		p.A.SendSnapshot(m)
		time.Sleep(time.Second)
		start := time.Now()
		c.Stop()
		require.ErrorIs(t, cause, rafthttp.ErrStopped)
		require.Less(t, time.Since(start), time.Second)
		require.False(t, <-m.CloseNotify())
	})
}
