package snapshots_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// openedLater is a snapshot of index 7 to member 2 whose database open opens.
func openedLater(size int64, open func() (io.ReadCloser, error)) *snap.Message {
	m := snap.NewMessage(testmember.MsgSnap(2, 1, 7), nil, size)
	m.Open = open
	return m
}

// TestSnapshotOpensItsReaderInItsTurn: snapshots that wait are not opened, and those that are dropped never.
func TestSnapshotOpensItsReaderInItsTurn(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		got := make(chan string, 1)
		a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) { tr.MaxSnapshots = 1 })
		b := testmember.StartSimulated(t, n, 2, testmember.Receives(testmember.Saver(func(r io.Reader, _ uint64) (int64, error) {
			all, err := io.ReadAll(r)
			got <- string(all)
			return int64(len(all)), err
		})))
		testmember.Connect(t, a, b)
		first := testmember.BlockingReader([]byte("ab"))
		a.SendSnapshot(snap.NewMessage(testmember.MsgSnap(2, 1, 5), first, 4))
		time.Sleep(time.Second)
		db := &testmember.Database{Reader: strings.NewReader("database")}
		var opened atomic.Int32
		m := openedLater(8, func() (io.ReadCloser, error) {
			opened.Add(1)
			return db, nil
		})
		a.SendSnapshot(m)
		time.Sleep(2 * time.Second)
		require.Zero(t, opened.Load(), "the first one has the place")
		require.Equal(t, "ab", <-got) // it stalled
		require.Equal(t, "database", <-got)
		testmember.RequireEnd(t, m, db, true, a.Recorder, raft.SnapshotFailure, raft.SnapshotFinish)
		require.EqualValues(t, 1, opened.Load())
	})
}

// TestSnapshotOpenFails: an Open that fails, panics or hangs is a failure of the reader: it has one report, and what it opens is
// closed once.
func TestSnapshotOpenFails(t *testing.T) {
	cause := errors.New("no such file")
	for name, c := range map[string]struct {
		open   func(db *testmember.Database) (io.ReadCloser, error)
		want   error
		closes int32
	}{
		"error":            {func(*testmember.Database) (io.ReadCloser, error) { return nil, cause }, cause, 0},
		"error and reader": {func(db *testmember.Database) (io.ReadCloser, error) { return db, cause }, cause, 1},
		"panic":            {func(*testmember.Database) (io.ReadCloser, error) { panic("in Open") }, rafthttp.ErrSnapshotReader, 0},
		"nothing":          {func(*testmember.Database) (io.ReadCloser, error) { return nil, nil }, rafthttp.ErrSnapshotShort, 0},
		"late": {func(db *testmember.Database) (io.ReadCloser, error) {
			time.Sleep(time.Minute)
			return db, nil
		}, rafthttp.ErrStalled, 1},
		"late panic in Close": {func(db *testmember.Database) (io.ReadCloser, error) {
			time.Sleep(time.Minute)
			db.OnClose = func() { panic("in Close") }
			return db, nil
		}, rafthttp.ErrStalled, 1},
	} {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				ended := make(chan error, 1)
				a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) { tr.Observer = sentTo(ended) })
				b := testmember.StartSimulated(t, n, 2, testmember.Receives(testmember.SavesAll))
				testmember.Connect(t, a, b)
				db := &testmember.Database{Reader: strings.NewReader("database")}
				m := openedLater(8, func() (io.ReadCloser, error) { return c.open(db) })
				a.SendSnapshot(m)
				require.ErrorIs(t, <-ended, c.want)
				require.False(t, <-m.CloseNotify())
				time.Sleep(2 * time.Minute)
				require.Equal(t, c.closes, db.Closes.Load())
				require.Equal(t, []raft.SnapshotStatus{raft.SnapshotFailure}, a.Recorder.SnapshotReports())
				require.Zero(t, a.Recorder.Unreachables(2), "it is not the peer's fault")
			})
		})
	}
}

// TestSnapshotEndsWhileItOpens: a reader that Open returns after the transport was stopped is closed.
func TestSnapshotEndsWhileItOpens(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a := testmember.StartSimulated(t, n, 1, nil)
		b := testmember.StartSimulated(t, n, 2, testmember.Receives(testmember.SavesAll))
		testmember.Connect(t, a, b)
		db := &testmember.Database{Reader: strings.NewReader("database")}
		may := make(chan struct{})
		m := openedLater(8, func() (io.ReadCloser, error) {
			<-may
			return db, nil
		})
		a.SendSnapshot(m)
		synctest.Wait()
		a.Stop()
		require.False(t, <-m.CloseNotify())
		require.Equal(t, []raft.SnapshotStatus{raft.SnapshotFailure}, a.Recorder.SnapshotReports())
		require.Zero(t, db.Closes.Load())
		close(may)
		synctest.Wait()
		require.EqualValues(t, 1, db.Closes.Load())
	})
}

// TestSnapshotOpensOnceForAllAttempts: a transfer that breaks and is resumed goes on with the same reader.
func TestSnapshotOpensOnceForAllAttempts(t *testing.T) {
	const size = 4 << 20
	data, dir := testmember.RandomBytes(size), t.TempDir()
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		store := testmember.OpenStore(t, dir)
		a := testmember.StartSimulated(t, n, 1, nil)
		b := testmember.StartSimulated(t, n, 2, testmember.Receives(store))
		testmember.Connect(t, a, b)
		n.Link(testmember.HostOf(1), testmember.HostOf(2)).SetBandwidth(1 << 20)
		db := &testmember.Seekable{Reader: bytes.NewReader(data)}
		var opened atomic.Int32
		m := openedLater(size, func() (io.ReadCloser, error) {
			opened.Add(1)
			return db, nil
		})
		a.SendSnapshot(m)
		time.Sleep(2 * time.Second)
		n.Reset(testmember.HostOf(1), testmember.HostOf(2))
		require.True(t, <-m.CloseNotify())
		time.Sleep(time.Second)
		testmember.RequireSaved(t, store, 7, data)
		require.EqualValues(t, 1, opened.Load())
		require.EqualValues(t, 1, db.Closes.Load())
		require.Equal(t, []raft.SnapshotStatus{raft.SnapshotFinish}, a.Recorder.SnapshotReports())
	})
}

// TestSnapshotIsOpenedAgain: a transfer that breaks off, of a reader that cannot seek, begins again with another reader: within the bounds
// of attempts, and each is closed once, before the next is opened.
func TestSnapshotIsOpenedAgain(t *testing.T) {
	const size = 4 << 20
	data, cause, errAny := testmember.RandomBytes(size), errors.New("it is gone"), errors.New("any")
	for name, c := range map[string]struct {
		breaks int
		again  func(db *testmember.Database) error // before the second one is returned
		want   error
		opens  int
	}{
		"once":         {1, nil, nil, 2},
		"three times":  {3, nil, nil, 4},
		"ever again":   {1000, nil, errAny, 6},
		"cannot":       {1, func(*testmember.Database) error { return cause }, cause, 1},
		"other bytes":  {1, func(db *testmember.Database) error { db.Reader = bytes.NewReader(make([]byte, size)); return nil }, nil, 2},
		"Close blocks": {1, func(*testmember.Database) error { return nil }, rafthttp.ErrStalled, 1},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				store, ended := testmember.OpenStore(t, dir), make(chan error, 1)
				a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) { tr.Observer = sentTo(ended) })
				b := testmember.StartSimulated(t, n, 2, testmember.Receives(store))
				testmember.Connect(t, a, b)
				n.Link(testmember.HostOf(1), testmember.HostOf(2)).SetBandwidth(1 << 20)
				var all []*testmember.Database
				release := make(chan struct{})
				m := openedLater(size, func() (io.ReadCloser, error) {
					db := &testmember.Database{Reader: io.MultiReader(bytes.NewReader(data))}
					if len(all) == 1 && c.again != nil {
						if err := c.again(db); err != nil {
							return nil, err
						}
					}
					if name == "Close blocks" {
						db.OnClose = func() { <-release }
					}
					for _, former := range all {
						require.EqualValues(t, 1, former.Closes.Load())
					}
					all = append(all, db)
					return db, nil
				})
				a.SendSnapshot(m)
				for i := 0; i < c.breaks && len(ended) == 0; i++ {
					time.Sleep(2 * time.Second)
					n.Reset(testmember.HostOf(1), testmember.HostOf(2))
				}
				if err := <-ended; errors.Is(c.want, errAny) {
					require.Error(t, err)
				} else {
					require.ErrorIs(t, err, c.want)
				}
				require.Equal(t, c.want == nil, <-m.CloseNotify())
				time.Sleep(time.Minute) // nothing is opened any more
				close(release)
				switch {
				case name == "other bytes":
					testmember.RequireSaved(t, store, 7, make([]byte, size))
				case c.want == nil:
					testmember.RequireSaved(t, store, 7, data)
				}
				require.Len(t, all, c.opens)
				for _, db := range all {
					require.EqualValues(t, 1, db.Closes.Load())
				}
				require.Len(t, a.Recorder.SnapshotReports(), 1)
			})
		})
	}
}

// TestSnapshotEndsWhileItIsOpenedAgain: an Open that fails, panics or hangs when it is called again, also while the peer or the transport
// ends, is as one that does when it is called first: there is one report, and each reader is closed once, also one that comes late.
func TestSnapshotEndsWhileItIsOpenedAgain(t *testing.T) {
	const size = 4 << 20
	data, cause := testmember.RandomBytes(size), errors.New("it is gone")
	for name, c := range map[string]struct {
		open  func(db *testmember.Database, may <-chan struct{}) (io.ReadCloser, error)
		end   func(a *testmember.Member)
		want  error
		opens int
	}{
		"error and reader": {func(db *testmember.Database, _ <-chan struct{}) (io.ReadCloser, error) { return db, cause }, nil, cause, 2},
		"panic":            {func(*testmember.Database, <-chan struct{}) (io.ReadCloser, error) { panic("in Open") }, nil, rafthttp.ErrSnapshotReader, 1},
		"nothing":          {func(*testmember.Database, <-chan struct{}) (io.ReadCloser, error) { return nil, nil }, nil, rafthttp.ErrSnapshotShort, 1},
		"late":             {waitToOpen, nil, rafthttp.ErrStalled, 2},
		"peer removed":     {waitToOpen, func(a *testmember.Member) { a.RemovePeer(2) }, rafthttp.ErrPeerRemoved, 2},
		"stopped":          {waitToOpen, func(a *testmember.Member) { a.Stop() }, rafthttp.ErrStopped, 2},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				store, ended := testmember.OpenStore(t, dir), make(chan error, 1)
				a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) { tr.Observer = sentTo(ended) })
				b := testmember.StartSimulated(t, n, 2, testmember.Receives(store))
				testmember.Connect(t, a, b)
				n.Link(testmember.HostOf(1), testmember.HostOf(2)).SetBandwidth(1 << 20)
				var all []*testmember.Database
				calls, may := 0, make(chan struct{})
				m := openedLater(size, func() (io.ReadCloser, error) {
					db := &testmember.Database{Reader: io.MultiReader(bytes.NewReader(data))}
					calls++
					if calls == 1 {
						all = append(all, db)
						return db, nil
					}
					r, err := c.open(db, may)
					if r != nil {
						all = append(all, db)
					}
					return r, err
				})
				a.SendSnapshot(m)
				time.Sleep(2 * time.Second)
				n.Reset(testmember.HostOf(1), testmember.HostOf(2))
				time.Sleep(2 * time.Second)
				if c.end != nil {
					c.end(a)
				}
				err, sent := <-ended, <-m.CloseNotify()
				closed := all[0].Closes.Load()
				close(may)
				synctest.Wait()
				require.ErrorIs(t, err, c.want)
				require.False(t, sent)
				require.EqualValues(t, 1, closed)
				require.Equal(t, 2, calls)
				require.Len(t, all, c.opens)
				for _, db := range all {
					require.EqualValues(t, 1, db.Closes.Load())
				}
				require.Equal(t, []raft.SnapshotStatus{raft.SnapshotFailure}, a.Recorder.SnapshotReports())
			})
		})
	}
}

func waitToOpen(db *testmember.Database, may <-chan struct{}) (io.ReadCloser, error) {
	<-may
	return db, nil
}
