package groups_test

import (
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/internal/testtls"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// noRaft makes a Transport one that has groups only.
func noRaft(tr *rafthttp.Transport) { tr.Raft = rafthttp.NoRaft{} }

// frontURL is where front listens.
const frontURL = "http://front:2380"

// front starts a proxy for node 2, which speaks a version of HTTP to it. do may answer a request instead of pass.
func front(t *testing.T, n *memnet.Network, version *http.Protocols, do func(w http.ResponseWriter, r *http.Request, pass http.Handler)) {
	t.Helper()
	ln, err := n.Host("front").Listen("2380")
	require.NoError(t, err)
	target, err := url.Parse(testmember.URLOf(2))
	require.NoError(t, err)
	client := &http.Transport{Protocols: version, DialContext: n.Host("front").DialContext}
	pass := httputil.NewSingleHostReverseProxy(target)
	pass.Transport = client
	pass.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { do(w, r, pass) })}
	served := make(chan struct{})
	go func() { defer close(served); _ = s.Serve(ln) }()
	t.Cleanup(func() {
		s.Close()
		client.CloseIdleConnections()
		<-served
	})
}

func passOn(w http.ResponseWriter, r *http.Request, pass http.Handler) { pass.ServeHTTP(w, r) }

// startH2 starts a node behind a server that speaks HTTP/2 only.
func startH2(t *testing.T, n *memnet.Network, id types.ID) *testmember.Member {
	t.Helper()
	ln, err := n.Host(testmember.HostOf(id)).Listen("2380")
	require.NoError(t, err)
	version := new(http.Protocols)
	version.SetUnencryptedHTTP2(true)
	by := func(h http.Handler) *http.Server { return &http.Server{Handler: h, Protocols: version} }
	return testmember.StartBy(t, by, ln, testmember.URLOf(id), id, func(tr *rafthttp.Transport) {
		tr.Raft, tr.DialContext = rafthttp.NoRaft{}, n.Host(testmember.HostOf(id)).DialContext
	})
}

// TestGroupsByEveryWayOut: messages of every kind, and snapshots, arrive as they were sent, however the response of a stream can be
// written; by POST if it cannot.
func TestGroupsByEveryWayOut(t *testing.T) {
	h2 := new(http.Protocols)
	h2.SetUnencryptedHTTP2(true)
	for name, tt := range map[string]struct {
		start  func(t *testing.T, n *memnet.Network) *testmember.Member // node 2
		url    string
		byPost bool
	}{
		"hijacked": {func(t *testing.T, n *memnet.Network) *testmember.Member { return startNode(t, n, 2) }, testmember.URLOf(2), false},
		"with deadlines": {func(t *testing.T, n *memnet.Network) *testmember.Member {
			m := startNode(t, n, 2)
			testmember.WrapWriters(m, testmember.Writers["with deadlines"])
			return m
		}, testmember.URLOf(2), false},
		"flush only": {func(t *testing.T, n *memnet.Network) *testmember.Member {
			m := startNode(t, n, 2)
			testmember.WrapWriters(m, func(w http.ResponseWriter) http.ResponseWriter { return testmember.BasicWriter{W: w} })
			return m
		}, testmember.URLOf(2), true},
		"proxy": {func(t *testing.T, n *memnet.Network) *testmember.Member {
			front(t, n, nil, passOn)
			return startNode(t, n, 2)
		}, frontURL, false},
		"proxy that closes connections": {func(t *testing.T, n *memnet.Network) *testmember.Member {
			front(t, n, nil, func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
				w.Header().Set("Connection", "close")
				pass.ServeHTTP(w, r)
			})
			return startNode(t, n, 2)
		}, frontURL, false},
		"HTTP/2": {func(t *testing.T, n *memnet.Network) *testmember.Member {
			front(t, n, h2, passOn)
			return startH2(t, n, 2)
		}, frontURL, false},
	} {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				ma, mb := startNode(t, n, 1), tt.start(t, n)
				a, b := join(t, ma, 7, saves(testmember.SavesAll)), join(t, mb, 7, saves(testmember.SavesAll))
				a.AddPeer(2, []string{tt.url})
				b.AddPeer(1, []string{testmember.URLOf(1)})
				time.Sleep(10 * time.Second)
				requireBothWays(t, a, b, func() { time.Sleep(100 * time.Millisecond) })
				lane := groupLane(t, mb, 1, "grouppost")
				require.Equal(t, tt.byPost, lane.Messages > 0, "%d messages by POST", lane.Messages)
				m, db := small("database")
				a.SendSnapshot(m)
				if name == "proxy that closes connections" { // each connection of a snapshot of a group is asked first
					testmember.RequireEnd(t, m, db, false, a.raft, raft.SnapshotFailure)
					return
				}
				testmember.RequireEnd(t, m, db, true, a.raft, raft.SnapshotFinish)
				time.Sleep(time.Minute)
				if !tt.byPost {
					for _, s := range groupNode(t, ma, 2).Streams {
						require.EqualValues(t, 1, s.Connects, "%s %s", s.Name, s.Direction)
					}
				}
				require.Zero(t, a.raft.Unreachables(2)+b.raft.Unreachables(1))
			})
		})
	}
}

// requireBothWays has two replicas send each other messages of every kind, from 2 to 1 as they are, and waits after each.
func requireBothWays(t *testing.T, a, b joined, wait func()) {
	t.Helper()
	var there, back []*raftpb.Message
	for _, m := range testmember.OfEachKind() {
		r := proto.CloneOf(m)
		r.From, r.To = m.To, m.From
		b.Send([]*raftpb.Message{proto.CloneOf(m)})
		a.Send([]*raftpb.Message{proto.CloneOf(r)})
		there, back = append(there, r), append(back, m)
		wait()
	}
	require.Len(t, a.raft.Received(), len(back))
	require.Len(t, b.raft.Received(), len(there))
	for i := range back {
		require.True(t, proto.Equal(back[i], a.raft.Received()[i]), "%v", back[i])
		require.True(t, proto.Equal(there[i], b.raft.Received()[i]), "%v", there[i])
	}
}

// TestGroupsOverSockets: over TCP, Unix sockets and TLS of the system, streams and snapshots.
func TestGroupsOverSockets(t *testing.T) {
	ca := testtls.NewAuthority(t)
	for _, scheme := range []string{"http", "https", "unix", "unixs"} {
		t.Run(scheme, func(t *testing.T) {
			sockets, err := os.MkdirTemp("", "rafthttp") // a path that is short enough for a socket
			require.NoError(t, err)
			t.Cleanup(func() { os.RemoveAll(sockets) })
			start := func(id types.ID) *testmember.Member {
				var info transport.TLSInfo
				if scheme == "https" || scheme == "unixs" {
					info = ca.Member(t, id)
				}
				u := url.URL{Scheme: scheme, Host: "127.0.0.1:0"}
				if scheme == "unix" || scheme == "unixs" {
					u = url.URL{Scheme: scheme, Path: filepath.Join(sockets, id.String())}
				}
				ln, err := rafthttp.NewListener(u, &info)
				require.NoError(t, err)
				if u.Path == "" {
					u.Host = ln.Addr().String()
				}
				return testmember.StartAt(t, ln, u.String(), id, func(tr *rafthttp.Transport) { tr.Raft, tr.TLSInfo = rafthttp.NoRaft{}, info })
			}
			ma, mb := start(1), start(2)
			a, b := join(t, ma, 7, nil), join(t, mb, 7, saves(testmember.SavesAll))
			a.AddPeer(2, []string{mb.URL})
			b.AddPeer(1, []string{ma.URL})
			for _, m := range []*testmember.Member{ma, mb} {
				testmember.Eventually(t, func() bool {
					return groupLane(t, m, 3-m.ID, "group").Up && groupLane(t, m, 3-m.ID, "groupapp").Up
				})
			}
			n := 0
			requireBothWays(t, a, b, func() {
				n++
				testmember.Eventually(t, func() bool { return len(a.raft.Received()) == n && len(b.raft.Received()) == n })
			})
			reports := len(a.raft.SnapshotReports())
			m, _ := small("database")
			a.SendSnapshot(m)
			require.True(t, <-m.CloseNotify())
			testmember.Eventually(t, func() bool { return len(a.raft.SnapshotReports()) == reports+1 })
			require.Zero(t, a.raft.Unreachables(2)+b.raft.Unreachables(1))
		})
	}
}

// TestProxyAnswersForTheNode: a proxy that answers by itself, whichever request and how, ends nothing for good and is no news of the group: no
// replica was removed, no snapshot arrived. Once it lets requests through, all works.
func TestProxyAnswersForTheNode(t *testing.T) {
	for name, path := range map[string]string{
		"probe": "/raft/probing", "streams": "/raft/stream/", "post": "/raft/groups", "offset": "/raft/groups/snapshot/offset", "snapshot": "/raft/groups/snapshot",
	} {
		for _, code := range []int{http.StatusForbidden, http.StatusNotFound, http.StatusBadGateway, http.StatusOK} {
			t.Run(name+" "+http.StatusText(code), func(t *testing.T) {
				testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
					var open atomic.Bool
					front(t, n, nil, func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
						if !open.Load() && (r.URL.Path == path || name == "streams" && len(r.URL.Path) > len(path) && r.URL.Path[:len(path)] == path) {
							w.WriteHeader(code)
							_, _ = w.Write([]byte("a page"))
							return
						}
						pass.ServeHTTP(w, r)
					})
					ma, mb := startNode(t, n, 1), startNode(t, n, 2)
					removed := make(chan error, 1)
					a := join(t, ma, 7, func(c *rafthttp.GroupConfig) { c.ErrorC = removed })
					b := join(t, mb, 7, saves(testmember.SavesAll))
					a.AddPeer(2, []string{frontURL})
					if name == "post" { // no streams: all goes by POST
						n.DialBlock(testmember.HostOf(2), testmember.HostOf(1), memnet.DialRefused)
					}
					b.AddPeer(1, []string{testmember.URLOf(1)})
					index := uint64(0)
					send := func() {
						for range 30 {
							index++
							a.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1), testmember.MsgApp(2, 1, index, nil)})
							b.Send([]*raftpb.Message{testmember.Heartbeat(1, 2, 1), testmember.MsgApp(1, 2, index, nil)})
							time.Sleep(100 * time.Millisecond)
						}
					}
					send()
					m, db := small("database")
					a.SendSnapshot(m)
					ok := <-m.CloseNotify()
					passes := name == "streams" || name == "post"
					require.Equal(t, passes, ok)
					send()
					want := []raft.SnapshotStatus{raft.SnapshotFailure}
					if passes {
						want[0] = raft.SnapshotFinish
					}
					require.Equal(t, want, a.raft.SnapshotReports())
					require.EqualValues(t, 1, db.Closes.Load())
					require.Empty(t, removed)
					if name == "post" && code != http.StatusOK { // an answer 200 that does not state the cluster is believed, as for /raft
						require.NotZero(t, a.raft.Unreachables(2))
						require.Len(t, b.raft.Received(), 1, "the snapshot")
					}
					open.Store(true)
					n.DialBlock(testmember.HostOf(2), testmember.HostOf(1), memnet.DialAllowed)
					time.Sleep(5 * time.Second)
					before, beforeB := len(a.raft.Received()), len(b.raft.Received())
					lost := a.raft.Unreachables(2)
					send()
					require.Len(t, a.raft.Received(), before+60)
					require.Len(t, b.raft.Received(), beforeB+60)
					require.Equal(t, lost, a.raft.Unreachables(2))
					m, db = small("database")
					a.SendSnapshot(m)
					testmember.RequireEnd(t, m, db, true, a.raft, append(want, raft.SnapshotFinish)...)
				})
			})
		}
	}
}

// TestProxyThatLeadsToAnotherProcess: a proxy keeps the connection of a snapshot, and leads its body to a stock member, after the node has
// answered the probe and the offset request on it. The stock member answers 404.
func TestProxyThatLeadsToAnotherProcess(t *testing.T) {
	for name, plain := range map[string]bool{"plain": true, "resumable": false} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				store := newKeeper()
				stock := &rafthttp.Transport{ID: 2, ClusterID: testmember.ClusterID, Raft: &testmember.Recorder{}, Snapshotter: store}
				require.NoError(t, stock.Start())
				defer stock.Stop()
				other := stockLike(stock.Handler())
				var bodies atomic.Int32
				front(t, n, nil, func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
					if r.URL.Path == "/raft/groups/snapshot" || r.URL.Path == "/raft/snapshot" {
						bodies.Add(1)
						other.ServeHTTP(w, r)
						return
					}
					pass.ServeHTTP(w, r)
				})
				var saver rafthttp.Snapshotter = testmember.OpenStore(t, dir)
				if plain {
					saver = testmember.PlainStore{Snapshotter: saver}
				}
				ma, mb := startNode(t, n, 1), startNode(t, n, 2)
				a, b := join(t, ma, 7, nil), join(t, mb, 7, saves(saver))
				a.AddPeer(2, []string{frontURL})
				b.AddPeer(1, []string{testmember.URLOf(1)})
				time.Sleep(time.Second)
				m, db := small("database")
				a.SendSnapshot(m)
				testmember.RequireEnd(t, m, db, false, a.raft, raft.SnapshotFailure)
				require.NotZero(t, bodies.Load())
				require.Empty(t, store.databases)
				require.Empty(t, stock.Raft.(*testmember.Recorder).Received())
				require.Empty(t, b.raft.Received())
			})
		})
	}
}
