package groups_test

import (
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// refusing starts node 1, which cannot serve streams and refuses messages of a group of node 2, which it dials at url.
func refusing(t *testing.T, n *memnet.Network, sender *testmember.Member, url string) (a, b joined, mb *testmember.Member) {
	t.Helper()
	mb = startNode(t, n, 1)
	testmember.WrapWriters(mb, func(w http.ResponseWriter) http.ResponseWriter { return testmember.BasicWriter{W: w} })
	a, b = join(t, sender, 1, nil), join(t, mb, 2, nil)
	a.AddPeer(1, []string{testmember.URLOf(1)})
	b.AddPeer(2, []string{url})
	time.Sleep(10 * time.Second)
	require.True(t, groupLane(t, sender, 1, "group").Up)
	require.False(t, groupLane(t, mb, 2, "group").Up)
	require.Zero(t, a.raft.Unreachables(1))
	return a, b, mb
}

// failPosts is front, which answers POSTs by fails while failing is set, and counts them.
func failPosts(t *testing.T, n *memnet.Network, fails http.HandlerFunc) (failing *atomic.Bool, failed *atomic.Int32) {
	t.Helper()
	failing, failed = new(atomic.Bool), new(atomic.Int32)
	front(t, n, nil, func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		if r.Method == http.MethodPost && failing.Load() {
			failed.Add(1)
			fails(w, r)
			return
		}
		pass.ServeHTTP(w, r)
	})
	return failing, failed
}

// TestRefusalsOverHTTP2: a POST with refusals passes a proxy, whichever version of HTTP this speaks to the node.
func TestRefusalsOverHTTP2(t *testing.T) {
	h2 := new(http.Protocols)
	h2.SetUnencryptedHTTP2(true)
	for name, version := range map[string]*http.Protocols{"HTTP/1": nil, "HTTP/2": h2} {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				start := startNode
				if version != nil {
					start = startH2
				}
				front(t, n, version, passOn)
				a, _, _ := refusing(t, n, start(t, n, 2), frontURL)
				a.Send([]*raftpb.Message{testmember.Heartbeat(1, 2, 1)})
				time.Sleep(10 * time.Second)
				require.NotZero(t, a.raft.Unreachables(1))
				require.EqualValues(t, a.raft.Unreachables(1), a.Status().Refused)
			})
		})
	}
}

// TestRefusalsThatFailAreToldAgain: the sender of the last message is told, although the first POST with its refusal failed.
func TestRefusalsThatFailAreToldAgain(t *testing.T) {
	answer := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	for name, fails := range map[string]http.HandlerFunc{
		"200": answer(http.StatusOK), "403": answer(http.StatusForbidden), "404": answer(http.StatusNotFound),
		"503": answer(http.StatusServiceUnavailable), "413": answer(http.StatusRequestEntityTooLarge), "502": answer(http.StatusBadGateway),
		"cut": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"hangs": func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		},
	} {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				failing, failed := failPosts(t, n, fails)
				a, _, _ := refusing(t, n, startNode(t, n, 2), frontURL)
				failing.Store(true)
				a.Send([]*raftpb.Message{testmember.Heartbeat(1, 2, 1)})
				time.Sleep(20 * time.Second)
				require.NotZero(t, failed.Load())
				require.Zero(t, a.raft.Unreachables(1))
				failing.Store(false)
				time.Sleep(20 * time.Second)
				require.NotZero(t, a.raft.Unreachables(1), "nobody says that there is no such group")
				require.LessOrEqual(t, a.raft.Unreachables(1), 2)
			})
		})
	}
}

// TestRefusalsToANodeThatMoves: a refusal follows a node that has other URLs since the POST began.
func TestRefusalsToANodeThatMoves(t *testing.T) {
	for name, move := range map[string]func(b joined, urls []string){
		"UpdatePeer": func(b joined, urls []string) { b.UpdatePeer(2, urls) },
		"AddReplica": func(b joined, urls []string) { b.AddReplica(22, 2, urls) },
	} {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				held := make(chan struct{})
				defer close(held)
				front(t, n, nil, func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
					if r.Method == http.MethodPost {
						<-held
						return
					}
					pass.ServeHTTP(w, r)
				})
				a, b, _ := refusing(t, n, startNode(t, n, 2), frontURL)
				a.Send([]*raftpb.Message{testmember.Heartbeat(1, 2, 1)})
				time.Sleep(8 * time.Second) // the POST is under way, and the message was sent too long ago to be lost with a stream
				move(b, []string{testmember.URLOf(2)})
				time.Sleep(time.Minute)
				require.NotZero(t, a.raft.Unreachables(1), "nobody says that there is no such group")
				require.NotZero(t, a.Status().Refused)
			})
		})
	}
}

// TestRefusalsThatNeverArrive: a refusal is not posted for ever, and later ones are posted again.
func TestRefusalsThatNeverArrive(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		failing, failed := failPosts(t, n, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusRequestEntityTooLarge) })
		a, b, mb := refusing(t, n, startNode(t, n, 2), frontURL)
		failing.Store(true)
		a.Send([]*raftpb.Message{testmember.Heartbeat(1, 2, 1)})
		time.Sleep(3 * time.Minute)
		tries := failed.Load()
		require.Greater(t, tries, int32(10))
		require.Less(t, tries, int32(100))
		require.Contains(t, groupNode(t, mb, 2).LastError, "413")
		require.Equal(t, 1, b.ActivePeers(), "the stream from the node delivers")
		time.Sleep(3 * time.Minute)
		require.Equal(t, tries, failed.Load())
		failing.Store(false)
		a.Send([]*raftpb.Message{testmember.Heartbeat(1, 2, 1)})
		time.Sleep(10 * time.Second)
		require.NotZero(t, a.raft.Unreachables(1))
	})
}

// TestEndDuringAPostOfRefusals: whatever ends a node ends a POST with refusals to it, which is not repeated.
func TestEndDuringAPostOfRefusals(t *testing.T) {
	for name, end := range map[string]func(b joined, mb *testmember.Member){
		"RemovePeer":     func(b joined, _ *testmember.Member) { b.RemovePeer(2) },
		"RemoveAllPeers": func(b joined, _ *testmember.Member) { b.RemoveAllPeers() },
		"Group.Stop":     func(b joined, _ *testmember.Member) { b.Stop() },
		"Stop":           func(_ joined, mb *testmember.Member) { mb.Stop() },
	} {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				var posts, running atomic.Int32
				front(t, n, nil, func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
					if r.Method == http.MethodPost {
						posts.Add(1)
						running.Add(1)
						defer running.Add(-1)
						_, _ = io.Copy(io.Discard, r.Body)
						<-r.Context().Done()
						return
					}
					pass.ServeHTTP(w, r)
				})
				a, b, mb := refusing(t, n, startNode(t, n, 2), frontURL)
				a.Send([]*raftpb.Message{testmember.Heartbeat(1, 2, 1)})
				time.Sleep(3 * time.Second)
				require.EqualValues(t, 1, running.Load())
				began := time.Now()
				end(b, mb)
				require.Zero(t, time.Since(began))
				time.Sleep(time.Second)
				require.Zero(t, running.Load())
				time.Sleep(time.Minute)
				require.EqualValues(t, 1, posts.Load())
			})
		})
	}
}

// TestRefusalsWhenAStreamComesUp: a refusal whose POST fails goes on the stream that has come up meanwhile, and others do not wait for the POST.
func TestRefusalsWhenAStreamComesUp(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		var posts atomic.Int32
		fail := make(chan struct{})
		front(t, n, nil, func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
			if r.Method == http.MethodPost {
				posts.Add(1)
				<-fail
				w.WriteHeader(http.StatusBadGateway)
				return
			}
			pass.ServeHTTP(w, r)
		})
		ma, mb := startNode(t, n, 2), startNode(t, n, 1)
		n.DialBlock(testmember.HostOf(2), testmember.HostOf(1), memnet.DialRefused)
		a, second, b := join(t, ma, 1, nil), join(t, ma, 3, nil), join(t, mb, 2, nil)
		a.AddPeer(1, []string{testmember.URLOf(1)})
		second.AddPeer(1, []string{testmember.URLOf(1)})
		b.AddPeer(2, []string{frontURL})
		time.Sleep(10 * time.Second)
		require.True(t, groupLane(t, ma, 1, "group").Up)
		a.Send([]*raftpb.Message{testmember.Heartbeat(1, 2, 1)})
		time.Sleep(2 * time.Second)
		require.EqualValues(t, 1, posts.Load())
		n.DialBlock(testmember.HostOf(2), testmember.HostOf(1), memnet.DialAllowed)
		time.Sleep(5 * time.Second)
		require.True(t, groupLane(t, mb, 2, "group").Up)
		second.Send([]*raftpb.Message{testmember.Heartbeat(1, 2, 1)})
		time.Sleep(100 * time.Millisecond)
		require.EqualValues(t, 1, second.Status().Refused)
		require.Zero(t, a.Status().Refused)
		close(fail)
		time.Sleep(100 * time.Millisecond)
		require.EqualValues(t, 1, a.Status().Refused)
		time.Sleep(time.Minute)
		require.EqualValues(t, 1, posts.Load())
		require.EqualValues(t, 1, a.Status().Refused)
	})
}

// TestLastRefusalOfALongOutage: a refusal that waits is posted until 60 POSTs with it have failed, however long others failed before.
func TestLastRefusalOfALongOutage(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		failing, failed := failPosts(t, n, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
		ma := startNode(t, n, 2)
		a, _, _ := refusing(t, n, ma, frontURL)
		last := join(t, ma, 3, nil)
		last.AddPeer(1, []string{testmember.URLOf(1)})
		failing.Store(true)
		a.Send([]*raftpb.Message{testmember.Heartbeat(1, 2, 1)})
		time.Sleep(95 * time.Second)
		require.Greater(t, failed.Load(), int32(50))
		last.Send([]*raftpb.Message{testmember.Heartbeat(1, 2, 1)})
		time.Sleep(10 * time.Second)
		require.Zero(t, last.Status().Refused)
		failing.Store(false)
		time.Sleep(10 * time.Second)
		require.EqualValues(t, 1, last.Status().Refused, "nobody says that there is no such group")
		require.Zero(t, a.Status().Refused, "60 POSTs with it have failed")
		for range 3 { // none of the outages is long
			failing.Store(true)
			last.Send([]*raftpb.Message{testmember.Heartbeat(1, 2, 1)})
			time.Sleep(60 * time.Second)
			failing.Store(false)
			time.Sleep(10 * time.Second)
		}
		require.EqualValues(t, 4, last.Status().Refused)
	})
}
