package groups_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// saves gives a group a Snapshotter.
func saves(s rafthttp.Snapshotter) func(*rafthttp.GroupConfig) {
	return func(c *rafthttp.GroupConfig) { c.Snapshotter = s }
}

// keeper is a Snapshotter that keeps what it was given.
type keeper struct{ databases chan string }

func newKeeper() *keeper { return &keeper{make(chan string, 100)} }

func (k *keeper) SaveDBFrom(r io.Reader, _ uint64) (int64, error) {
	all, err := io.ReadAll(r)
	if err == nil {
		k.databases <- string(all)
	}
	return int64(len(all)), err
}

// between starts the nodes 1 and 2, and joins a group on both; the second has the Snapshotter.
func between(t *testing.T, n *memnet.Network, group uint64, s rafthttp.Snapshotter) (a, b joined) {
	t.Helper()
	ma, mb := startNode(t, n, 1), startNode(t, n, 2)
	return connect(t, ma, mb, group, s)
}

func connect(t *testing.T, ma, mb *testmember.Member, group uint64, s rafthttp.Snapshotter) (a, b joined) {
	t.Helper()
	a, b = join(t, ma, group, nil), join(t, mb, group, saves(s))
	a.AddPeer(2, []string{testmember.URLOf(2)})
	b.AddPeer(1, []string{testmember.URLOf(1)})
	return a, b
}

// small is a snapshot to replica 2 with a short database.
func small(text string) (*snap.Message, *testmember.Database) {
	db := &testmember.Database{Reader: strings.NewReader(text)}
	return testmember.NewSnapshot(db, int64(len(text))), db
}

// TestGroupSnapshot: it is saved by the Snapshotter of its group, plain or resumable, and then processed by its Raft.
func TestGroupSnapshot(t *testing.T) {
	for name, plain := range map[string]bool{"plain": true, "resumable": false} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				store := testmember.OpenStore(t, dir)
				var saver rafthttp.Snapshotter = store
				if plain {
					saver = testmember.PlainStore{Snapshotter: store}
				}
				a, b := between(t, n, 7, saver)
				m, db := small("database")
				want := m.Message
				a.SendSnapshot(m)
				testmember.RequireEnd(t, m, db, true, a.raft, raft.SnapshotFinish)
				requireReceived(t, []*raftpb.Message{want}, b)
				testmember.RequireSaved(t, store, 7, []byte("database"))
				require.Empty(t, b.raft.SnapshotReports())
			})
		})
	}
}

// TestGroupSnapshotResumes: one that breaks continues, although the Transport has no Snapshotter.
func TestGroupSnapshotResumes(t *testing.T) {
	const size = 8 << 20
	data, dir := testmember.RandomBytes(size), t.TempDir()
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		store := testmember.OpenStore(t, dir)
		a, b := between(t, n, 7, store)
		n.Link(testmember.HostOf(1), testmember.HostOf(2)).SetBandwidth(1 << 20)
		var read atomic.Int64
		db := &testmember.Seekable{Reader: bytes.NewReader(data), OnRead: func(int64) { read.Add(1) }}
		m := snap.NewMessage(testmember.MsgSnap(2, 1, 7), nil, size)
		m.Open = func() (io.ReadCloser, error) { return db, nil }
		begun := time.Now()
		a.SendSnapshot(m)
		time.Sleep(6 * time.Second)
		n.Reset(testmember.HostOf(1), testmember.HostOf(2))
		require.True(t, <-m.CloseNotify())
		require.Less(t, time.Since(begun), 12*time.Second, "it began again")
		time.Sleep(time.Second)
		require.EqualValues(t, 1, db.Closes.Load())
		require.Equal(t, []raft.SnapshotStatus{raft.SnapshotFinish}, a.raft.SnapshotReports())
		require.Len(t, b.raft.Received(), 1)
		testmember.RequireSaved(t, store, 7, data)
	})
}

// TestGroupSnapshotsOfEqualIndexes: two groups, and the Transport's own member, receive at once what only the group
// tells apart.
func TestGroupSnapshotsOfEqualIndexes(t *testing.T) {
	const size = 1 << 20
	dirs := []string{t.TempDir(), t.TempDir(), t.TempDir()}
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		ma := testmember.StartSimulated(t, n, 1, nil)
		var stores []*snap.Store
		for _, dir := range dirs {
			stores = append(stores, testmember.OpenStore(t, dir))
		}
		mb := testmember.StartSimulated(t, n, 2, testmember.Receives(stores[0]))
		testmember.Connect(t, ma, mb)
		send := []func(*snap.Message){ma.SendSnapshot}
		for id := range uint64(2) {
			a, _ := connect(t, ma, mb, id+1, stores[id+1])
			send = append(send, a.SendSnapshot)
		}
		n.Link(testmember.HostOf(1), testmember.HostOf(2)).SetBandwidth(1 << 20)
		var all []*snap.Message
		for i, f := range send {
			db := &testmember.Seekable{Reader: bytes.NewReader(bytes.Repeat([]byte{byte(i)}, size))}
			m := snap.NewMessage(testmember.MsgSnap(2, 1, 7), db, size)
			all = append(all, m)
			f(m)
		}
		for _, m := range all {
			require.True(t, <-m.CloseNotify())
		}
		time.Sleep(time.Second)
		for i, store := range stores {
			testmember.RequireSaved(t, store, 7, bytes.Repeat([]byte{byte(i)}, size))
		}
	})
}

// TestGroupSnapshotRefused: for an unknown group, a group without a Snapshotter, or another replica, nothing is saved,
// by the Transport neither, and there is one report.
func TestGroupSnapshotRefused(t *testing.T) {
	for name, c := range map[string]struct {
		there func(t *testing.T, mb *testmember.Member, s rafthttp.Snapshotter)
	}{
		"unknown group":  {func(t *testing.T, mb *testmember.Member, s rafthttp.Snapshotter) { join(t, mb, 8, saves(s)) }},
		"no Snapshotter": {func(t *testing.T, mb *testmember.Member, _ rafthttp.Snapshotter) { join(t, mb, 7, nil) }},
		"other replica": {func(t *testing.T, mb *testmember.Member, s rafthttp.Snapshotter) {
			join(t, mb, 7, func(c *rafthttp.GroupConfig) { c.Snapshotter, c.Replica = s, 22 })
		}},
		"removed sender": {func(t *testing.T, mb *testmember.Member, s rafthttp.Snapshotter) {
			g := join(t, mb, 7, saves(s))
			g.raft.Removed = func(id uint64) bool { return id == 1 }
		}},
	} {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				store := newKeeper()
				ma, mb := startNode(t, n, 1), testmember.StartSimulated(t, n, 2, testmember.Receives(store))
				removed := make(chan error, 1)
				a := join(t, ma, 7, func(c *rafthttp.GroupConfig) { c.ErrorC = removed })
				a.AddPeer(2, []string{testmember.URLOf(2)})
				c.there(t, mb, store)
				m, db := small("database")
				a.SendSnapshot(m)
				testmember.RequireEnd(t, m, db, false, a.raft, raft.SnapshotFailure)
				require.Empty(t, store.databases)
				require.Empty(t, mb.Recorder.Received())
				require.Equal(t, name == "removed sender", len(removed) == 1)
			})
		})
	}
}

// TestGroupSnapshotToNobody: a snapshot to a replica that the group does not have fails.
func TestGroupSnapshotToNobody(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a := join(t, startNode(t, n, 1), 7, nil)
		m, db := small("database")
		a.SendSnapshot(m)
		testmember.RequireEnd(t, m, db, false, a.raft, raft.SnapshotFailure)
		a.Stop()
		m, db = small("database")
		a.SendSnapshot(m)
		testmember.RequireEnd(t, m, db, false, a.raft, raft.SnapshotFailure)
	})
}

// TestGroupSnapshotRequests: a request that names a group is never about the Transport's own member, however wrong it is.
func TestGroupSnapshotRequests(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		store := newKeeper()
		m := testmember.StartSimulated(t, n, 1, testmember.Receives(store))
		ask := func(path, method string, h map[string]string) int {
			head := testmember.PeerHeader(h)
			if _, ok := h["X-Raft-Group"]; ok {
				head["X-Raft-Group"] = []string{h["X-Raft-Group"]}
			}
			return testmember.Ask(t, m.Transport, method, path, head, testmember.SnapshotBody(t, testmember.MsgSnap(1, 2, 7), "x")).Code
		}
		both := func(want int, h map[string]string) {
			t.Helper()
			require.Equal(t, want, ask("/raft/groups/snapshot", http.MethodPost, h))
			require.Equal(t, want, ask("/raft/groups/snapshot/offset", http.MethodGet, h))
		}
		both(http.StatusNotFound, map[string]string{"X-Raft-Group": "7"}) // no groups at all
		g := join(t, m, 7, saves(store))
		both(http.StatusNotFound, map[string]string{"X-Raft-Group": "8"})
		both(http.StatusBadRequest, map[string]string{"X-Raft-Group": ""})
		both(http.StatusBadRequest, map[string]string{"X-Raft-Group": "0"})
		both(http.StatusBadRequest, map[string]string{"X-Raft-Group": "x7"})
		both(http.StatusBadRequest, map[string]string{"X-Raft-Group": "7", "X-Server-From": ""})
		both(http.StatusPreconditionFailed, map[string]string{"X-Raft-Group": "7", "X-Raft-To": "3"})
		both(http.StatusPreconditionFailed, map[string]string{"X-Raft-Group": "7", "X-Raft-To": ""})
		require.Equal(t, http.StatusBadRequest, ask("/raft/snapshot", http.MethodPost, map[string]string{"X-Raft-Group": "7"}))
		require.Empty(t, store.databases)
		require.Empty(t, m.Recorder.Received())
		require.Empty(t, g.raft.Received())
		require.Equal(t, http.StatusNoContent, ask("/raft/groups/snapshot", http.MethodPost, map[string]string{"X-Raft-Group": "7"}))
		require.Len(t, g.raft.Received(), 1)
		require.Empty(t, m.Recorder.Received())
	})
}

// TestGroupSnapshotProcess: the result of Process answers the request, and a database that is not used is discarded.
func TestGroupSnapshotProcess(t *testing.T) {
	dir := t.TempDir()
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		store := testmember.OpenStore(t, dir)
		a, b := between(t, n, 7, store)
		b.raft.OnProcess = func(context.Context, *raftpb.Message) error { return errors.New("not wanted") }
		m, db := small("database")
		a.SendSnapshot(m)
		testmember.RequireEnd(t, m, db, false, a.raft, raft.SnapshotFailure)
		_, err := store.DBFilePath(7)
		require.Error(t, err, "it was discarded")
		b.raft.OnProcess = func(ctx context.Context, _ *raftpb.Message) error { // for longer than SnapshotAnswerTimeout
			<-ctx.Done()
			return ctx.Err()
		}
		m, db = small("database")
		a.SendSnapshot(m)
		testmember.RequireEnd(t, m, db, false, a.raft, raft.SnapshotFailure, raft.SnapshotFailure)
	})
}

// TestGroupSnapshotWaitsForSlowAppends: the message of a snapshot waits longer for room than appends, which would hold up a stream.
func TestGroupSnapshotWaitsForSlowAppends(t *testing.T) {
	dir := t.TempDir()
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		tune := func(tr *rafthttp.Transport) { tr.Raft, tr.ReceiveQueueMessages = rafthttp.NoRaft{}, 4 }
		a, b := connect(t, startNode(t, n, 1), testmember.StartSimulated(t, n, 2, tune), 7, testmember.OpenStore(t, dir))
		time.Sleep(time.Second)
		b.raft.OnProcess = func(_ context.Context, m *raftpb.Message) error {
			if m.GetType() == raftpb.MsgApp {
				time.Sleep(time.Second)
			}
			return nil
		}
		for i := range uint64(8) {
			a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, i+1, nil)})
		}
		m, db := small("database")
		a.SendSnapshot(m)
		testmember.RequireEnd(t, m, db, true, a.raft, raft.SnapshotFinish)
	})
}

// TestManyGroupSnapshotsTakeTurns: those of many groups to one node wait unopened, and none fails for having waited.
func TestManyGroupSnapshotsTakeTurns(t *testing.T) {
	const groups, most = 100, 2
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		tune := func(tr *rafthttp.Transport) { tr.Raft, tr.MaxSnapshots = rafthttp.NoRaft{}, most }
		ma, mb := testmember.StartSimulated(t, n, 1, tune), testmember.StartSimulated(t, n, 2, tune)
		var open, opens, top atomic.Int32
		var all []*snap.Message
		var as, bs []joined
		stores := make([]*keeper, groups)
		for i := range uint64(groups) {
			stores[i] = newKeeper()
			a, b := connect(t, ma, mb, i+1, stores[i])
			as, bs = append(as, a), append(bs, b)
		}
		for i, a := range as {
			text := fmt.Sprintf("database of group %d", i)
			m := snap.NewMessage(testmember.MsgSnap(2, 1, 7), nil, int64(len(text)))
			m.Open = func() (io.ReadCloser, error) {
				opens.Add(1)
				top.Store(max(top.Load(), open.Add(1)))
				db := testmember.Throttled([]byte(text), 8, 3*time.Second)
				db.OnClose = func() { open.Add(-1) }
				return db, nil
			}
			all = append(all, m)
			a.SendSnapshot(m)
		}
		for _, m := range all {
			require.True(t, <-m.CloseNotify())
		}
		time.Sleep(time.Second)
		require.EqualValues(t, most, top.Load(), "as many as have a place are open")
		require.EqualValues(t, groups, opens.Load())
		require.Zero(t, open.Load())
		for i := range as {
			require.Equal(t, []raft.SnapshotStatus{raft.SnapshotFinish}, as[i].raft.SnapshotReports())
			require.Zero(t, as[i].raft.Unreachables(2))
			require.Len(t, bs[i].raft.Received(), 1)
			require.Equal(t, fmt.Sprintf("database of group %d", i), <-stores[i].databases)
		}
	})
}

// TestGroupSnapshotsOfManyNodesTakeTurns: two nodes send more at once than one receives, and none fails.
func TestGroupSnapshotsOfManyNodesTakeTurns(t *testing.T) {
	const each = 8
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		nodes := map[uint64]*testmember.Member{}
		for id := range uint64(3) {
			nodes[id+1] = startNode(t, n, types.ID(id+1))
		}
		var all []*snap.Message
		for i := range uint64(2 * each) {
			from := 1 + 2*(i%2) // 1 and 3 send to 2
			a := join(t, nodes[from], i+1, nil)
			a.AddPeer(2, []string{testmember.URLOf(2)})
			join(t, nodes[2], i+1, saves(testmember.SavesAll))
			db := &testmember.Seekable{Reader: bytes.NewReader([]byte("database")), OnRead: func(int64) { time.Sleep(time.Second) }}
			m := snap.NewMessage(testmember.MsgSnap(2, 1, 7), db, 8)
			m.From = new(from)
			all = append(all, m)
			a.SendSnapshot(m)
		}
		for _, m := range all {
			require.True(t, <-m.CloseNotify())
		}
	})
}
