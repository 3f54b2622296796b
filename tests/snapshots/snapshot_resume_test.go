package snapshots_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// breaking returns a database during which event happens at each of the offsets,
// once.
func breaking(data []byte, event func(), offsets ...int64) *testmember.Seekable {
	return &testmember.Seekable{Reader: bytes.NewReader(data), OnRead: func(at int64) {
		if len(offsets) > 0 && at >= offsets[0] {
			offsets = offsets[1:]
			event()
		}
	}}
}

func TestSnapshotResumes(t *testing.T) {
	const size = 8 << 20
	data := testmember.RandomBytes(size)
	events := map[string]func(p *testmember.Pair){
		"reset": func(p *testmember.Pair) { p.Net.Reset("a", "b") },
		"black hole": func(p *testmember.Pair) {
			p.Net.Partition([]string{"a"}, []string{"b"})
			time.AfterFunc(8*time.Second, p.Net.Heal)
		},
	}
	for name, event := range events {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			bubble.Test(t, func(t *testing.T) {
				store := testmember.OpenStore(t, dir)
				p := testmember.NewPair(t, nil, testmember.Receives(store))
				p.Net.Link("a", "b").SetBandwidth(4 << 20)
				time.Sleep(time.Second)
				db := breaking(data, func() { event(p) }, 1<<20, 3<<20, 7<<20)
				m := snap.NewMessage(testmember.MsgSnap(2, 1, 7), db, size)
				p.A.SendSnapshot(m)
				require.NoError(t, <-p.Sent)
				require.True(t, <-m.CloseNotify())
				testmember.RequireSaved(t, store, 7, data)
				synctest.Wait()
				last := p.A.Status().Peers[0].LastSnapshot
				require.Equal(t, 4, last.Attempts)
				require.EqualValues(t, size, last.Bytes)
				require.Less(t, p.A.Status().Peers[0].SentBytes, uint64(size+size/10), "sent twice")
				require.Equal(t, []raft.SnapshotStatus{raft.SnapshotFinish}, p.A.Recorder.SnapshotReports())
				require.EqualValues(t, 1, db.Closes.Load())
				require.Len(t, p.B.Recorder.Received(), 1)
			})
		})
	}
}

// What is not cut is not tried again, nor what cannot be resumed.
func TestSnapshotIsTriedOnce(t *testing.T) {
	const size = 4 << 20
	data := testmember.RandomBytes(size)
	fails := func(err error) rafthttp.Snapshotter {
		return testmember.Saver(func(io.Reader, uint64) (int64, error) { return 0, err })
	}
	tests := []struct {
		name  string
		store func(*snap.Store) rafthttp.Snapshotter
		db    func(cut func()) (io.ReadCloser, int64)
		want  error
	}{
		{
			name:  "a receiver as stock",
			store: func(s *snap.Store) rafthttp.Snapshotter { return testmember.PlainStore{Snapshotter: s} },
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
				var s rafthttp.Snapshotter = testmember.OpenStore(t, dir)
				if tc.store != nil {
					s = tc.store(s.(*snap.Store))
				}
				p := testmember.NewPair(t, nil, testmember.Receives(s))
				time.Sleep(time.Second)
				rc, declared := tc.db(func() { p.Net.Reset("a", "b") })
				m := snap.NewMessage(testmember.MsgSnap(2, 1, 7), rc, declared)
				p.A.SendSnapshot(m)
				require.ErrorIs(t, <-p.Sent, tc.want)
				require.Equal(t, 1, p.A.Status().Peers[0].LastSnapshot.Attempts)
				require.Empty(t, p.B.Recorder.Received())
			})
		})
	}
}

// A receiver that is gone for good is given up, after what it takes to be sure.
func TestSnapshotIsGivenUp(t *testing.T) {
	dir := t.TempDir()
	bubble.Test(t, func(t *testing.T) {
		const size = 4 << 20
		p := testmember.NewPair(t, nil, testmember.Receives(testmember.OpenStore(t, dir)))
		p.Net.Link("a", "b").SetBandwidth(4 << 20)
		time.Sleep(time.Second)
		db := breaking(testmember.RandomBytes(size), func() { p.Net.Host("b").Crash() }, 1<<20)
		m := snap.NewMessage(testmember.MsgSnap(2, 1, 7), db, size)
		start := time.Now()
		p.A.SendSnapshot(m)
		require.ErrorIs(t, <-p.Sent, syscall.ECONNREFUSED)
		require.Less(t, time.Since(start), 15*time.Second)
		synctest.Wait()
		require.Equal(t, 6, p.A.Status().Peers[0].LastSnapshot.Attempts)
		require.Equal(t, []raft.SnapshotStatus{raft.SnapshotFailure}, p.A.Recorder.SnapshotReports())
	})
}

// The answer may be lost when all is done: nothing is sent, or processed, again then.
func TestSnapshotAnswerLost(t *testing.T) {
	dir := t.TempDir()
	bubble.Test(t, func(t *testing.T) {
		const size = 4 << 20
		data := testmember.RandomBytes(size)
		store := testmember.OpenStore(t, dir)
		p := testmember.NewPair(t, nil, testmember.Receives(store))
		time.Sleep(time.Second)
		calls := 0
		p.B.Recorder.OnProcess = func(_ context.Context, m *raftpb.Message) error {
			if calls++; calls == 1 {
				p.Net.Reset("a", "b")
				time.Sleep(20 * time.Second)
			}
			p.B.Recorder.Keep(m)
			return nil
		}
		m := snap.NewMessage(testmember.MsgSnap(2, 1, 7), &testmember.Seekable{Reader: bytes.NewReader(data)}, size)
		p.A.SendSnapshot(m)
		start := time.Now()
		require.NoError(t, <-p.Sent)
		require.InDelta(t, 20*time.Second, time.Since(start), float64(2*time.Second))
		time.Sleep(time.Minute)
		testmember.RequireSaved(t, store, 7, data)
		require.InDelta(t, size, p.A.Status().Peers[0].SentBytes, 1000)
		require.Equal(t, 2, p.A.Status().Peers[0].LastSnapshot.Attempts)
		require.Len(t, p.B.Recorder.Received(), 1)
	})
}

// A database that changes on its way, or between two attempts, is not taken.
func TestSnapshotChecksum(t *testing.T) {
	const size = 4 << 20
	t.Run("on its way", func(t *testing.T) {
		dir := t.TempDir()
		bubble.Test(t, func(t *testing.T) {
			store := testmember.OpenStore(t, dir)
			p := testmember.NewPair(t, nil, testmember.Receives(corrupting{store, 1 << 20}))
			time.Sleep(time.Second)
			m := snap.NewMessage(testmember.MsgSnap(2, 1, 7), &testmember.Seekable{Reader: bytes.NewReader(testmember.RandomBytes(size))}, size)
			p.A.SendSnapshot(m)
			require.ErrorIs(t, <-p.Sent, rafthttp.ErrSnapshotChecksum)
			_, err := store.DBFilePath(7)
			require.ErrorIs(t, err, snap.ErrNoDBSnapshot)
			require.Empty(t, p.B.Recorder.Received())
		})
		files, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Empty(t, files)
	})
	t.Run("between attempts", func(t *testing.T) {
		dir := t.TempDir()
		bubble.Test(t, func(t *testing.T) {
			store := testmember.OpenStore(t, dir)
			p := testmember.NewPair(t, nil, testmember.Receives(store))
			p.Net.Link("a", "b").SetBandwidth(4 << 20)
			time.Sleep(time.Second)
			data := testmember.RandomBytes(size)
			// The first transfer brings half of it; then there is another database of
			// the same index and size.
			first := breaking(data, func() { p.A.RemovePeer(2) }, size/2)
			m := snap.NewMessage(testmember.MsgSnap(2, 1, 7), first, size)
			p.A.SendSnapshot(m)
			require.False(t, <-m.CloseNotify())
			time.Sleep(time.Second)
			other := bytes.Clone(data)
			other[100]++
			p.A.AddPeer(2, []string{p.B.URL})
			time.Sleep(time.Second)
			m = snap.NewMessage(testmember.MsgSnap(2, 1, 7), &testmember.Seekable{Reader: bytes.NewReader(other)}, size)
			p.A.SendSnapshot(m)
			require.True(t, <-m.CloseNotify(), p.A.Status().Peers[0].LastError)
			testmember.RequireSaved(t, store, 7, other)
			require.GreaterOrEqual(t, p.A.Status().Peers[0].SentBytes, uint64(size), "all of it anew")
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
	return c.Store.ResumeDBFrom(testmember.ReaderFunc(func(p []byte) (int, error) {
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
		data := testmember.RandomBytes(size)
		store := testmember.OpenStore(t, dir)
		p := testmember.NewPair(t, nil, testmember.Receives(store))
		p.Net.Link("a", "b").SetBandwidth(4 << 20)
		time.Sleep(time.Second)
		m := snap.NewMessage(testmember.MsgSnap(2, 1, 7), breaking(data, func() { p.A.RemovePeer(2) }, size/2), size)
		p.A.SendSnapshot(m)
		require.False(t, <-m.CloseNotify())
		p.A.AddPeer(2, []string{p.B.URL})
		time.Sleep(time.Second)
		m = snap.NewMessage(testmember.MsgSnap(2, 1, 7), &testmember.Seekable{Reader: bytes.NewReader(data)}, size)
		p.A.SendSnapshot(m)
		require.True(t, <-m.CloseNotify())
		testmember.RequireSaved(t, store, 7, data)
		require.Less(t, p.A.Status().Peers[0].SentBytes, uint64(size*6/10))
	})
}
