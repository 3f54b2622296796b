package groups_test

import (
	"bytes"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// stockLike serves requests like a stock member: it does not know the headers of extensions, nor their paths.
func stockLike(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("X-Raft-Group")
		r.Header.Del("X-Raft-Extensions")
		switch r.URL.Path {
		case "/raft/snapshot":
			h.ServeHTTP(w, r)
		case "/raft/probing":
			_, _ = w.Write([]byte(`{"OK":true,"Now":"2026-11-29T00:00:00Z"}`))
		default:
			http.NotFound(w, r)
		}
	})
}

// startStock starts a member like a stock one, whose Snapshotter and Raft take everything.
func startStock(t *testing.T, n *memnet.Network) (*testmember.Member, *keeper) {
	t.Helper()
	return startStockBehind(t, n, func(h http.Handler) http.Handler { return h })
}

// startStockBehind is startStock, with a handler before that of the member.
func startStockBehind(t *testing.T, n *memnet.Network, before func(http.Handler) http.Handler) (*testmember.Member, *keeper) {
	t.Helper()
	store := newKeeper()
	ln, err := n.Host(testmember.HostOf(2)).Listen("2380")
	require.NoError(t, err)
	serve := func(h http.Handler) *http.Server { return &http.Server{Handler: before(stockLike(h))} }
	return testmember.StartBy(t, serve, ln, testmember.URLOf(2), 2, testmember.Tuned(testmember.Receives(store), func(tr *rafthttp.Transport) {
		tr.DialContext = n.Host(testmember.HostOf(2)).DialContext
	})), store
}

func requireUntouched(t *testing.T, m *testmember.Member, store *keeper) {
	t.Helper()
	require.Empty(t, m.Recorder.Received(), "its raft got the message of another raft")
	require.Empty(t, store.databases, "it saved the database of another raft")
}

// startLogged starts a node without members of its own, and returns the log of failed snapshots.
func startLogged(t *testing.T, n *memnet.Network) (*testmember.Member, func() []string) {
	t.Helper()
	logged, logs := testmember.Logged(zap.NewAtomicLevelAt(zap.WarnLevel))
	m := testmember.StartSimulated(t, n, 1, testmember.Tuned(logged, func(tr *rafthttp.Transport) { tr.Raft = rafthttp.NoRaft{} }))
	return m, func() (all []string) {
		for _, e := range logs.FilterMessage("failed to send database snapshot").All() {
			all = append(all, e.ContextMap()["error"].(string))
		}
		return all
	}
}

// TestGroupSnapshotToAStockMember: it would save the database as its own, and process the message of another raft. So it
// is not sent one. Nor is a member of this library without groups.
func TestGroupSnapshotToAStockMember(t *testing.T) {
	for name, start := range map[string]func(*testing.T, *memnet.Network) (*testmember.Member, *keeper){
		"stock": startStock,
		"without groups": func(t *testing.T, n *memnet.Network) (*testmember.Member, *keeper) {
			store := newKeeper()
			return testmember.StartSimulated(t, n, 2, testmember.Receives(store)), store
		},
		"all answers end the connection": func(t *testing.T, n *memnet.Network) (*testmember.Member, *keeper) {
			m, store := startStock(t, n)
			m.Server.SetKeepAlivesEnabled(false)
			return m, store
		},
		"no answer to probes": func(t *testing.T, n *memnet.Network) (*testmember.Member, *keeper) {
			m, store := startStock(t, n)
			h := m.Server.Handler
			m.Server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/raft/groups/snapshot" {
					panic(http.ErrAbortHandler)
				}
				h.ServeHTTP(w, r)
			})
			return m, store
		},
	} {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				ma, failures := startLogged(t, n)
				mb, store := start(t, n)
				a := join(t, ma, 7, nil)
				a.AddPeer(2, []string{testmember.URLOf(2)})
				m, db := small("database")
				a.SendSnapshot(m)
				testmember.RequireEnd(t, m, db, false, a.raft, raft.SnapshotFailure)
				requireUntouched(t, mb, store)
				require.Len(t, failures(), 1)
				require.Contains(t, failures()[0], errs.ErrNoGroups.Error())
			})
		})
	}
}

// TestGroupSnapshotAndTheNodeBecomesAStockMember: it comes back as a stock member during a transfer, or in place of the
// connection on which the receiver was asked.
func TestGroupSnapshotAndTheNodeBecomesAStockMember(t *testing.T) {
	const size = 8 << 20
	data := testmember.RandomBytes(size)
	for name, plain := range map[string]bool{"plain": true, "resumable": false} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				ma, failures := startLogged(t, n)
				mb := startNode(t, n, 2)
				var saver rafthttp.Snapshotter = testmember.OpenStore(t, dir)
				if plain {
					saver = testmember.PlainStore{Snapshotter: saver}
				}
				a, _ := connect(t, ma, mb, 7, saver)
				n.Link(testmember.HostOf(1), testmember.HostOf(2)).SetBandwidth(1 << 20)
				db := &testmember.Seekable{Reader: bytes.NewReader(data)}
				m := snap.NewMessage(testmember.MsgSnap(2, 1, 7), db, size)
				a.SendSnapshot(m)
				time.Sleep(3 * time.Second)
				n.Host(testmember.HostOf(2)).Crash()
				stock, store := startStock(t, n)
				require.False(t, <-m.CloseNotify())
				time.Sleep(time.Minute)
				requireUntouched(t, stock, store)
				require.EqualValues(t, 1, db.Closes.Load())
				require.Equal(t, []raft.SnapshotStatus{raft.SnapshotFailure}, a.raft.SnapshotReports())
				require.Len(t, failures(), 1)
				if !plain {
					require.Contains(t, failures()[0], errs.ErrNoGroups.Error())
				}
				mb.Stop()
			})
		})
	}
}

// TestGroupSnapshotGoesOverTheConnectionThatWasAsked: another connection may lead to another process, such as a stock member that
// has been started since.
func TestGroupSnapshotGoesOverTheConnectionThatWasAsked(t *testing.T) {
	for name, plain := range map[string]bool{"plain": true, "resumable": false} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				ma, mb := startNode(t, n, 1), startNode(t, n, 2)
				var saver rafthttp.Snapshotter = testmember.OpenStore(t, dir)
				if plain {
					saver = testmember.PlainStore{Snapshotter: saver}
				}
				store := newKeeper()
				stock := &rafthttp.Transport{ID: 2, ClusterID: testmember.ClusterID, Raft: &testmember.Recorder{}, Snapshotter: store}
				require.NoError(t, stock.Start())
				defer stock.Stop()
				own, other := mb.Server.Handler, stockLike(stock.Handler())
				var asked sync.Map // by address of the client
				mb.Server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/raft/probing" {
						asked.Store(r.RemoteAddr, true)
					}
					if _, ok := asked.Load(r.RemoteAddr); ok {
						own.ServeHTTP(w, r)
					} else {
						other.ServeHTTP(w, r)
					}
				})
				a, b := connect(t, ma, mb, 7, saver)
				time.Sleep(time.Second)
				m, db := small("database")
				a.SendSnapshot(m)
				testmember.RequireEnd(t, m, db, true, a.raft, raft.SnapshotFinish)
				require.Len(t, b.raft.Received(), 1)
				require.Empty(t, store.databases)
			})
		})
	}
}
