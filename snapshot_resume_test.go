package rafthttp_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// seekable is a database that can go back, and counts what is read of it.
type seekable struct {
	*bytes.Reader
	closes  atomic.Int32
	onRead  func(at int64)
	onClose func()
}

func (s *seekable) Read(p []byte) (int, error) {
	if s.onRead != nil {
		s.onRead(s.Size() - int64(s.Len()))
	}
	return s.Reader.Read(p)
}

func (s *seekable) Close() error {
	s.closes.Add(1)
	if s.onClose != nil {
		s.onClose()
	}
	return nil
}

// breaking returns a database during which event happens at each of the offsets,
// once.
func breaking(data []byte, event func(), offsets ...int64) *seekable {
	return &seekable{Reader: bytes.NewReader(data), onRead: func(at int64) {
		if len(offsets) > 0 && at >= offsets[0] {
			offsets = offsets[1:]
			event()
		}
	}}
}

func openIn(t *testing.T, dir string) *snap.Store {
	t.Helper()
	store, err := snap.Open(dir)
	require.NoError(t, err)
	return store
}

func requireSaved(t *testing.T, store *snap.Store, index uint64, data []byte) {
	t.Helper()
	path, err := store.DBFilePath(index)
	require.NoError(t, err)
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, got), "the database differs")
}

func TestSnapshotResumes(t *testing.T) {
	const size = 8 << 20
	data := randomBytes(size)
	events := map[string]func(p *pair){
		"reset": func(p *pair) { p.net.Reset("a", "b") },
		"black hole": func(p *pair) {
			p.net.Partition([]string{"a"}, []string{"b"})
			time.AfterFunc(8*time.Second, p.net.Heal)
		},
	}
	for name, event := range events {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			bubble.Test(t, func(t *testing.T) {
				store := openIn(t, dir)
				p := newPair(t, nil, receives(store))
				p.net.Link("a", "b").SetBandwidth(4 << 20)
				time.Sleep(time.Second)
				db := breaking(data, func() { event(p) }, 1<<20, 3<<20, 7<<20)
				m := snap.NewMessage(msgSnap(2, 1, 7), db, size)
				p.a.SendSnapshot(m)
				require.NoError(t, <-p.sent)
				require.True(t, <-m.CloseNotify())
				requireSaved(t, store, 7, data)
				synctest.Wait()
				last := p.a.Status().Peers[0].LastSnapshot
				require.Equal(t, 4, last.Attempts)
				require.EqualValues(t, size, last.Bytes)
				require.Less(t, p.a.Status().Peers[0].SentBytes, uint64(size+size/10), "sent twice")
				require.Equal(t, []raft.SnapshotStatus{raft.SnapshotFinish}, p.a.raft.snapshotReports())
				require.EqualValues(t, 1, db.closes.Load())
				require.Len(t, p.b.raft.received(), 1)
			})
		})
	}
}

// What is not cut is not tried again, nor what cannot be resumed.
func TestSnapshotIsTriedOnce(t *testing.T) {
	const size = 4 << 20
	data := randomBytes(size)
	fails := func(err error) rafthttp.Snapshotter {
		return saver(func(io.Reader, uint64) (int64, error) { return 0, err })
	}
	tests := []struct {
		name  string
		store func(*snap.Store) rafthttp.Snapshotter
		db    func(cut func()) (io.ReadCloser, int64)
		want  error
	}{
		{
			name:  "a receiver as stock",
			store: func(s *snap.Store) rafthttp.Snapshotter { return plain{s} },
			db:    func(cut func()) (io.ReadCloser, int64) { return breaking(data, cut, 1<<20), size },
			want:  rafthttp.ErrSnapshotCut,
		},
		{
			name: "a reader that cannot go back",
			db: func(cut func()) (io.ReadCloser, int64) {
				return io.NopCloser(struct{ io.Reader }{breaking(data, cut, 1<<20)}), size
			},
			want: rafthttp.ErrSnapshotCut,
		},
		{
			name:  "a disk that is full",
			store: func(*snap.Store) rafthttp.Snapshotter { return fails(errors.New("no")) },
			db:    func(func()) (io.ReadCloser, int64) { return breaking(data, nil), size },
			want:  rafthttp.ErrSnapshotNotSaved,
		},
		{
			name: "a reader that is too short",
			db:   func(func()) (io.ReadCloser, int64) { return breaking(data, nil), size + 1 },
			want: rafthttp.ErrSnapshotShort,
		},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			bubble.Test(t, func(t *testing.T) {
				var s rafthttp.Snapshotter = openIn(t, dir)
				if tc.store != nil {
					s = tc.store(s.(*snap.Store))
				}
				p := newPair(t, nil, receives(s))
				time.Sleep(time.Second)
				rc, declared := tc.db(func() { p.net.Reset("a", "b") })
				m := snap.NewMessage(msgSnap(2, 1, 7), rc, declared)
				p.a.SendSnapshot(m)
				require.ErrorIs(t, <-p.sent, tc.want)
				require.Equal(t, 1, p.a.Status().Peers[0].LastSnapshot.Attempts)
				require.Empty(t, p.b.raft.received())
			})
		})
	}
}

// A receiver that is gone for good is given up, after what it takes to be sure.
func TestSnapshotIsGivenUp(t *testing.T) {
	dir := t.TempDir()
	bubble.Test(t, func(t *testing.T) {
		const size = 4 << 20
		p := newPair(t, nil, receives(openIn(t, dir)))
		p.net.Link("a", "b").SetBandwidth(4 << 20)
		time.Sleep(time.Second)
		db := breaking(randomBytes(size), func() { p.net.Host("b").Crash() }, 1<<20)
		m := snap.NewMessage(msgSnap(2, 1, 7), db, size)
		start := time.Now()
		p.a.SendSnapshot(m)
		require.ErrorIs(t, <-p.sent, syscall.ECONNREFUSED)
		require.Less(t, time.Since(start), 15*time.Second)
		synctest.Wait()
		require.Equal(t, 6, p.a.Status().Peers[0].LastSnapshot.Attempts)
		require.Equal(t, []raft.SnapshotStatus{raft.SnapshotFailure}, p.a.raft.snapshotReports())
	})
}

// The answer may be lost when all is done: nothing is sent, or processed, again then.
func TestSnapshotAnswerLost(t *testing.T) {
	dir := t.TempDir()
	bubble.Test(t, func(t *testing.T) {
		const size = 4 << 20
		data := randomBytes(size)
		store := openIn(t, dir)
		p := newPair(t, nil, receives(store))
		time.Sleep(time.Second)
		calls := 0
		p.b.raft.process = func(_ context.Context, m *raftpb.Message) error {
			if calls++; calls == 1 {
				p.net.Reset("a", "b")
				time.Sleep(20 * time.Second)
			}
			p.b.raft.keep(m)
			return nil
		}
		m := snap.NewMessage(msgSnap(2, 1, 7), &seekable{Reader: bytes.NewReader(data)}, size)
		p.a.SendSnapshot(m)
		start := time.Now()
		require.NoError(t, <-p.sent)
		require.InDelta(t, 20*time.Second, time.Since(start), float64(2*time.Second))
		time.Sleep(time.Minute)
		requireSaved(t, store, 7, data)
		require.InDelta(t, size, p.a.Status().Peers[0].SentBytes, 1000)
		require.Equal(t, 2, p.a.Status().Peers[0].LastSnapshot.Attempts)
		require.Len(t, p.b.raft.received(), 1)
	})
}

// A database that changes on its way, or between two attempts, is not taken.
func TestSnapshotChecksum(t *testing.T) {
	const size = 4 << 20
	t.Run("on its way", func(t *testing.T) {
		dir := t.TempDir()
		bubble.Test(t, func(t *testing.T) {
			store := openIn(t, dir)
			p := newPair(t, nil, receives(corrupting{store, 1 << 20}))
			time.Sleep(time.Second)
			m := snap.NewMessage(msgSnap(2, 1, 7), &seekable{Reader: bytes.NewReader(randomBytes(size))}, size)
			p.a.SendSnapshot(m)
			require.ErrorIs(t, <-p.sent, rafthttp.ErrSnapshotChecksum)
			_, err := store.DBFilePath(7)
			require.ErrorIs(t, err, snap.ErrNoDBSnapshot)
			require.Empty(t, p.b.raft.received())
		})
		files, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Empty(t, files)
	})
	t.Run("between attempts", func(t *testing.T) {
		dir := t.TempDir()
		bubble.Test(t, func(t *testing.T) {
			store := openIn(t, dir)
			p := newPair(t, nil, receives(store))
			p.net.Link("a", "b").SetBandwidth(4 << 20)
			time.Sleep(time.Second)
			data := randomBytes(size)
			// The first transfer brings half of it; then there is another database of
			// the same index and size.
			first := breaking(data, func() { p.a.RemovePeer(2) }, size/2)
			m := snap.NewMessage(msgSnap(2, 1, 7), first, size)
			p.a.SendSnapshot(m)
			require.False(t, <-m.CloseNotify())
			time.Sleep(time.Second)
			other := bytes.Clone(data)
			other[100]++
			p.a.AddPeer(2, []string{p.b.url})
			time.Sleep(time.Second)
			m = snap.NewMessage(msgSnap(2, 1, 7), &seekable{Reader: bytes.NewReader(other)}, size)
			p.a.SendSnapshot(m)
			require.True(t, <-m.CloseNotify(), p.a.Status().Peers[0].LastError)
			requireSaved(t, store, 7, other)
			require.GreaterOrEqual(t, p.a.Status().Peers[0].SentBytes, uint64(size), "all of it anew")
		})
	})
}

// corrupting changes a byte of what arrives.
type corrupting struct {
	*snap.Store
	at int64
}

func (c corrupting) ResumeDBFrom(r io.Reader, t snap.Transfer, offset int64, sum func() (uint32, error)) (int64, error) {
	at := c.at - offset
	return c.Store.ResumeDBFrom(readerFunc(func(p []byte) (int, error) {
		n, err := r.Read(p)
		if at >= 0 && at < int64(n) {
			p[at]++
		}
		at -= int64(n)
		return n, err
	}), t, offset, sum)
}

// What a later SendSnapshot for the same snapshot finds there, it does not send
// again.
func TestSnapshotResumedByTheNext(t *testing.T) {
	dir := t.TempDir()
	bubble.Test(t, func(t *testing.T) {
		const size = 8 << 20
		data := randomBytes(size)
		store := openIn(t, dir)
		p := newPair(t, nil, receives(store))
		p.net.Link("a", "b").SetBandwidth(4 << 20)
		time.Sleep(time.Second)
		m := snap.NewMessage(msgSnap(2, 1, 7), breaking(data, func() { p.a.RemovePeer(2) }, size/2), size)
		p.a.SendSnapshot(m)
		require.False(t, <-m.CloseNotify())
		p.a.AddPeer(2, []string{p.b.url})
		time.Sleep(time.Second)
		m = snap.NewMessage(msgSnap(2, 1, 7), &seekable{Reader: bytes.NewReader(data)}, size)
		p.a.SendSnapshot(m)
		require.True(t, <-m.CloseNotify())
		requireSaved(t, store, 7, data)
		require.Less(t, p.a.Status().Peers[0].SentBytes, uint64(size*6/10))
	})
}
