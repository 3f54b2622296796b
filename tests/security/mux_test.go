package security_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/internal/testtls"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// muxed is a process on a host of its own, which is a member of several clusters.
type muxed struct {
	id  types.ID
	mux rafthttp.Mux
	net *memnet.Network
}

func startMuxed(t *testing.T, n *memnet.Network, id types.ID) *muxed {
	m := &muxed{id: id, net: n}
	ln, err := n.Host(testmember.HostOf(id)).Listen("2380")
	require.NoError(t, err)
	server := rafthttp.NewServer(&m.mux)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(ln)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-served
	})
	return m
}

// join starts the member of a cluster, and adds it.
func (m *muxed) join(t *testing.T, cluster types.ID, tune ...func(*rafthttp.Transport)) *testmember.Member {
	t.Helper()
	r := &testmember.Recorder{}
	tr := &rafthttp.Transport{
		ID: m.id, ClusterID: cluster, Raft: r, URLs: types.MustNewURLs([]string{testmember.URLOf(m.id)}), DialContext: m.net.Host(testmember.HostOf(m.id)).DialContext,
	}
	for _, f := range tune {
		f(tr)
	}
	require.NoError(t, tr.Start())
	t.Cleanup(tr.Stop)
	require.NoError(t, m.mux.Add(tr))
	return &testmember.Member{Transport: tr, Recorder: r, URL: testmember.URLOf(m.id)}
}

// TestMuxKeepsClustersApart: members of three clusters in two processes, all with the same ids and URLs.
func TestMuxKeepsClustersApart(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		one, two := startMuxed(t, n, 1), startMuxed(t, n, 2)
		var groups [][2]*testmember.Member
		for c := types.ID(1); c <= 3; c++ {
			g := [2]*testmember.Member{one.join(t, c), two.join(t, c)}
			testmember.Connect(t, g[0], g[1])
			groups = append(groups, g)
		}
		for i, g := range groups {
			g[0].Send([]*raftpb.Message{testmember.MsgApp(2, 1, uint64(i), nil), testmember.Heartbeat(2, 1, uint64(10+i))})
			snapshot := testmember.Message(raftpb.MsgSnap, 2) // goes by a POST
			snapshot.Term = new(uint64(100 + i))
			g[0].Send([]*raftpb.Message{snapshot})
		}
		for i, g := range groups {
			testmember.Within(t, time.Second, func() bool { return len(g[1].Recorder.Received()) == 3 })
			for _, m := range g[1].Recorder.Received() {
				switch m.GetType() {
				case raftpb.MsgApp:
					require.Equal(t, uint64(i), m.GetIndex())
				case raftpb.MsgHeartbeat:
					require.Equal(t, uint64(10+i), m.GetCommit())
				default:
					require.Equal(t, uint64(100+i), m.GetTerm())
				}
			}
			require.Empty(t, g[0].Recorder.Received())
		}
	})
}

// TestMuxSnapshots: each cluster has its own Snapshotter, or none. Probes may be answered by another member than the one that
// the snapshot is for, which can do more or less.
func TestMuxSnapshots(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		one, two := startMuxed(t, n, 1), startMuxed(t, n, 2)
		var stores [2]*snap.Store
		two.join(t, 9) // which has none, and answers requests without a cluster
		for i := range stores {
			var err error
			stores[i], err = snap.Open(t.TempDir())
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, stores[i].Close()) })
			cluster := types.ID(i + 1)
			from, to := one.join(t, cluster), two.join(t, cluster, func(tr *rafthttp.Transport) { tr.Snapshotter = stores[i] })
			testmember.Connect(t, from, to)
			testmember.Within(t, time.Minute, func() bool { return !from.Status().Peers[0].ProbedAt.IsZero() })
			content := strings.Repeat(fmt.Sprint(i), 1<<20)
			link := n.Link(testmember.HostOf(1), testmember.HostOf(2))
			link.SetBandwidth(len(content) / 4)
			s := snap.NewMessage(testmember.MsgSnap(2, 1, 7), &testmember.Seekable{Reader: bytes.NewReader([]byte(content))}, int64(len(content)))
			from.SendSnapshot(s)
			time.Sleep(2 * time.Second)
			n.Reset(testmember.HostOf(1), testmember.HostOf(2)) // the transfer is resumed
			link.SetBandwidth(0)
			require.True(t, <-s.CloseNotify(), from.Status().Peers[0].LastError)
			require.Equal(t, 2, from.Status().Peers[0].LastSnapshot.Attempts)
			testmember.Within(t, time.Second, func() bool { return len(to.Recorder.Received()) == 1 })
			path, err := stores[i].DBFilePath(7)
			require.NoError(t, err)
			saved, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, content, string(saved))
		}
	})
}

func TestMuxAnswers(t *testing.T) {
	var mux rafthttp.Mux
	ask := func(method, path, cluster string) (int, http.Header) {
		r := httptest.NewRequest(method, path, nil)
		if cluster != "" {
			r.Header.Set("X-Etcd-Cluster-ID", cluster)
		}
		r.Header.Set("X-Server-From", "2")
		r.Header.Set("X-Server-Version", "3.7.0")
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		return w.Code, w.Header()
	}
	requireCode := func(want int, method, path, cluster string) {
		t.Helper()
		code, _ := ask(method, path, cluster)
		require.Equal(t, want, code, "%s %s of cluster %q", method, path, cluster)
	}
	requireCode(503, "GET", "/raft/probing", "")
	requireCode(503, "GET", "/raft/stream/message/2", "1")

	begin := func(cluster types.ID) *rafthttp.Transport {
		tr := &rafthttp.Transport{ID: 1, ClusterID: cluster, Raft: &testmember.Recorder{}}
		require.NoError(t, mux.Add(tr))
		return tr
	}
	one, two := begin(1), begin(2)
	requireCode(503, "GET", "/raft/probing", "")
	require.NoError(t, two.Start())
	defer two.Stop()
	requireCode(200, "GET", "/raft/probing", "")
	requireCode(503, "GET", "/raft/probing", "1")
	requireCode(412, "GET", "/raft/probing", "3")
	require.NoError(t, one.Start())
	defer one.Stop()
	for _, path := range []string{"/raft/stream/message/2", "/raft/stream/msgapp/2"} {
		requireCode(404, "GET", path, "1") // 2 is no peer
		requireCode(412, "GET", path, "3")
		requireCode(412, "GET", path, "")
		requireCode(400, "GET", path, "x")
	}
	requireCode(412, "POST", "/raft", "3")
	requireCode(412, "POST", "/raft/snapshot", "3")
	requireCode(404, "GET", "/elsewhere", "1")
	_, h := ask("GET", "/raft/stream/message/2", "2")
	require.Equal(t, "2", h.Get("X-Etcd-Cluster-ID"), "an answer is of the member that was asked")

	one.Stop()
	requireCode(503, "GET", "/raft/stream/message/2", "1")
	requireCode(200, "GET", "/raft/probing", "")
	mux.Remove(one)
	mux.Remove(one)
	requireCode(412, "GET", "/raft/stream/message/2", "1")
	begin(1)
	requireCode(503, "GET", "/raft/stream/message/2", "1")
	mux.Remove(two)
	requireCode(503, "GET", "/raft/probing", "")
}

func TestMuxRefusesTransports(t *testing.T) {
	var mux rafthttp.Mux
	require.NoError(t, mux.Add(&rafthttp.Transport{ClusterID: 1}))
	var wrong *rafthttp.ConfigError
	require.ErrorAs(t, mux.Add(&rafthttp.Transport{ClusterID: 1}), &wrong)
	require.Equal(t, "ClusterID", wrong.Field)
	require.Error(t, mux.Add(nil))
	require.NoError(t, mux.Add(&rafthttp.Transport{}), "0 is a number like others")
	mux.Remove(nil)
}

// TestMuxWhileServing: clusters come and go, and the streams of one that stays notice nothing.
func TestMuxWhileServing(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		one, two := startMuxed(t, n, 1), startMuxed(t, n, 2)
		a, b := one.join(t, 1), two.join(t, 1)
		testmember.Connect(t, a, b)
		since := a.ActiveSince(2)
		var coming sync.WaitGroup
		for c := types.ID(2); c < 10; c++ {
			coming.Go(func() {
				x, y := one.join(t, c), two.join(t, c)
				testmember.Connect(t, x, y)
				one.mux.Remove(x.Transport)
				x.Stop()
				y.Send([]*raftpb.Message{testmember.Heartbeat(1, 2, 1)}) // nobody is there
				testmember.Within(t, time.Minute, func() bool { return y.ActivePeers() == 0 })
				require.NoError(t, one.mux.Add(&rafthttp.Transport{ClusterID: c}))
			})
		}
		for i := range uint64(100) {
			a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, i, nil)})
			time.Sleep(10 * time.Millisecond)
		}
		coming.Wait()
		require.Len(t, b.Recorder.Received(), 100)
		require.Equal(t, since, a.ActiveSince(2))
		require.Zero(t, a.Recorder.Unreachables(2))
	})
}

// TestMuxProbes: our probes are for the member of their cluster, which is not well because another one is.
func TestMuxProbes(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		one, two := startMuxed(t, n, 1), startMuxed(t, n, 2)
		two.join(t, 9)
		a, b := one.join(t, 1), two.join(t, 1)
		a.AddPeer(2, []string{b.URL})
		testmember.Within(t, time.Minute, func() bool { return a.Status().Peers[0].Probes > 0 })
		require.Zero(t, a.Status().Peers[0].ProbeFailures)
		b.Stop()
		testmember.Within(t, time.Minute, func() bool { return a.Status().Peers[0].ProbeFailures > 0 })
		failures := a.Status().Peers[0].ProbeFailures
		two.mux.Remove(b.Transport)
		testmember.Within(t, time.Minute, func() bool { return a.Status().Peers[0].ProbeFailures > failures })
	})
}

// TestMuxLogsHandshakes: who logs a TLS handshake that fails is a Transport that runs then, whichever ran when the server
// began.
func TestMuxLogsHandshakes(t *testing.T) {
	for name, before := range map[string]func(*rafthttp.Mux, *rafthttp.Transport){
		"none ran":         func(*rafthttp.Mux, *rafthttp.Transport) {},
		"another one ran":  func(m *rafthttp.Mux, other *rafthttp.Transport) { m.Remove(other); other.Stop() },
		"that one stopped": func(_ *rafthttp.Mux, other *rafthttp.Transport) { other.Stop() },
	} {
		t.Run(name, func(t *testing.T) {
			ca := testtls.NewAuthority(t)
			ln := listens(t, ca.Member(t, 1))
			var mux rafthttp.Mux
			other := &rafthttp.Transport{ID: 1, ClusterID: 2, Raft: &testmember.Recorder{}}
			if name != "none ran" {
				require.NoError(t, other.Start())
				defer other.Stop()
				require.NoError(t, mux.Add(other))
			}
			server := rafthttp.NewServer(&mux)
			base := server.BaseContext
			begun := make(chan struct{})
			server.BaseContext = func(l net.Listener) context.Context {
				defer close(begun)
				return base(l)
			}
			served := make(chan struct{})
			go func() {
				defer close(served)
				_ = server.Serve(ln)
			}()
			defer func() {
				server.Close()
				<-served
			}()
			<-begun
			before(&mux, other)
			logs, lines := testmember.Logged(zap.NewAtomicLevelAt(zap.InfoLevel))
			one := &rafthttp.Transport{ID: 1, ClusterID: 1, Raft: &testmember.Recorder{}}
			logs(one)
			require.NoError(t, one.Start())
			defer one.Stop()
			require.NoError(t, mux.Add(one))
			shakes(t, ln.Addr().String(), &tls.Config{InsecureSkipVerify: true})
			testmember.Eventually(t, func() bool { return lines.FilterMessage(handshakeFailed).Len() == 1 })
		})
	}
}
