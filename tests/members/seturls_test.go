package members_test

import (
	"bytes"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// stated is what the requests of a member said of its URLs last, by path.
type stated struct {
	mu     sync.Mutex
	byPath map[string]string
}

// listens serves member 2, which refuses everything.
func (s *stated) listens(t *testing.T, n *memnet.Network) {
	t.Helper()
	ln, err := n.Host("m2").Listen("2380")
	require.NoError(t, err)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if r.URL.Path != rafthttp.ProbingPrefix { // which states nothing
			s.byPath[r.URL.Path] = r.Header.Get("X-PeerURLs")
		}
		w.WriteHeader(http.StatusInternalServerError)
	})}
	go func() { _ = server.Serve(ln) }()
	t.Cleanup(func() { server.Close() })
}

func (s *stated) since(t *testing.T, a *testmember.Member) map[string]string {
	t.Helper()
	s.mu.Lock()
	s.byPath = map[string]string{}
	s.mu.Unlock()
	a.Send(testmember.Heartbeats(1, 2, 1))
	m := snap.NewMessage(testmember.MsgSnap(2, 1, 7), &testmember.Database{Reader: bytes.NewReader(make([]byte, 10))}, 10)
	a.SendSnapshot(m)
	<-m.CloseNotify()
	time.Sleep(5 * time.Second) // streams are dialled again
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byPath
}

// TestSetURLs: every request states the URLs that were set last, before Start or after it.
func TestSetURLs(t *testing.T) {
	everywhere := func(urls string) map[string]string {
		return map[string]string{
			"/raft": urls, "/raft/snapshot": urls, "/raft/stream/message/1": urls, "/raft/stream/msgapp/1": urls,
		}
	}
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		s := &stated{}
		s.listens(t, n)
		a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) {
			tr.URLs = nil
			require.NoError(t, tr.SetURLs(types.MustNewURLs([]string{"http://before:1"})))
		})
		a.AddPeer(2, []string{testmember.URLOf(2)})
		require.Equal(t, everywhere("http://before:1"), s.since(t, a))
		require.NoError(t, a.SetURLs(types.MustNewURLs([]string{"http://b:1", "http://a:1"})))
		require.Equal(t, everywhere("http://a:1,http://b:1"), s.since(t, a))
		require.Equal(t, []string{"http://a:1", "http://b:1"}, a.Status().URLs)

		var bad *rafthttp.ConfigError
		wrong := types.MustNewURLs([]string{"http://c:1"})
		wrong[0].Path = "/path"
		require.ErrorAs(t, a.SetURLs(wrong), &bad)
		require.Equal(t, "URLs", bad.Field)
		require.Equal(t, []string{"http://a:1", "http://b:1"}, a.Status().URLs)

		require.NoError(t, a.SetURLs(nil))
		require.Equal(t, everywhere(""), s.since(t, a))
		require.Empty(t, a.Status().URLs)
	})
}

// TestSetURLsMakesARemote: a member that does not know us learns the new URLs, and answers there.
func TestSetURLsMakesARemote(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		b := testmember.StartSimulated(t, n, 2, nil)
		a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) { tr.URLs = types.MustNewURLs([]string{"http://elsewhere:1"}) })
		a.AddPeer(2, []string{b.URL})
		require.NoError(t, a.SetURLs(types.MustNewURLs([]string{a.URL})))
		a.Send(testmember.Heartbeats(1, 2, 1))
		testmember.Within(t, time.Second, func() bool { return len(b.Recorder.Received()) == 1 })
		testmember.Within(t, 5*time.Second, func() bool {
			b.Send([]*raftpb.Message{testmember.Heartbeat(1, 2, 1)})
			return len(a.Recorder.Received()) > 0
		})
	})
}

// TestUpdatePeerAddsNobody: neither a peer nor a remote, and a remote stays where it is.
func TestUpdatePeerAddsNobody(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a, b := testmember.StartSimulated(t, n, 1, nil), testmember.StartSimulated(t, n, 3, nil)
		a.AddRemote(3, []string{b.URL})
		for id := types.ID(2); id <= 3; id++ {
			a.UpdatePeer(id, testmember.SilentHost(n, 4))
		}
		require.Empty(t, a.Status().Peers)
		require.Equal(t, []types.ID{3}, a.Status().Remotes)
		a.Send(testmember.Heartbeats(1, 2, 1))
		a.Send(testmember.Heartbeats(1, 3, 1))
		testmember.Within(t, time.Second, func() bool { return len(b.Recorder.Received()) == 1 })
	})
}
