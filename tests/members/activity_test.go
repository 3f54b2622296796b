package members_test

import (
	"net/http"
	"path"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// streamServer is a member 2 that accepts streams, and serves each with f: beat writes a link heartbeat.
func streamServer(t *testing.T, n *memnet.Network, f func(r *http.Request, beat func())) {
	t.Helper()
	ln, err := n.Host("m2").Listen("2380")
	require.NoError(t, err)
	var serving sync.WaitGroup
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		serving.Add(1)
		defer serving.Done()
		if r.Method != http.MethodGet || path.Dir(path.Dir(r.URL.Path)) != rafthttp.RaftStreamPrefix {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		w.Header().Set("X-Server-Version", "3.7.0")
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		enc := wire.NewMessageEncoder()
		if path.Base(path.Dir(r.URL.Path)) == "msgapp" {
			enc = wire.NewMsgAppV2Encoder()
		}
		f(r, func() {
			var b wire.Batch
			enc.AppendLinkHeartbeat(&b)
			_, _ = b.WriteTo(w)
			_ = http.NewResponseController(w).Flush()
		})
	})}
	serving.Go(func() { _ = s.Serve(ln) })
	t.Cleanup(func() {
		s.Close()
		serving.Wait()
	})
}

// TestActiveFromTheFirstFrame: a peer that accepts streams and says nothing is not active, nor one behind a proxy that holds the
// body of its answers back; with the first link heartbeat it is, on either stream.
func TestActiveFromTheFirstFrame(t *testing.T) {
	for _, kind := range []string{"message", "msgapp"} {
		t.Run(kind, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				speaks := make(chan struct{})
				streamServer(t, n, func(r *http.Request, beat func()) {
					for {
						select {
						case <-r.Context().Done():
							return
						case <-speaks:
						}
						if path.Base(path.Dir(r.URL.Path)) != kind {
							<-r.Context().Done()
							return
						}
						beat()
						time.Sleep(time.Second)
					}
				})
				seen := &testmember.States{}
				a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) {
					tr.Observer = &rafthttp.Observer{PeerState: func(_ types.ID, active bool, _ error) { seen.Told(active) }}
				})
				a.AddPeer(2, []string{testmember.URLOf(2)})
				testmember.Always(t, time.Minute, func() bool { return a.ActivePeers() == 0 && a.ActiveSince(2).IsZero() })
				require.Empty(t, seen.List())
				require.NotZero(t, a.Status().Peers[0].Streams[2].Connects, "it accepts streams")
				require.NotEmpty(t, a.Status().Peers[0].LastError)
				close(speaks)
				testmember.Within(t, 2*time.Second, func() bool { return a.ActivePeers() == 1 })
				testmember.Always(t, time.Minute, func() bool { return a.ActivePeers() == 1 })
				require.Equal(t, []bool{true}, seen.List())
			})
		})
	}
}

// dialling is a member whose dials of streams are counted.
func dialling(t *testing.T, n *memnet.Network, tune func(*rafthttp.Transport)) (a *testmember.Member, to func(host string) int) {
	t.Helper()
	d := &testmember.Dials{}
	a = testmember.StartSimulated(t, n, 1, testmember.Tuned(tune, func(tr *rafthttp.Transport) {
		tr.DialContext = d.Count(n.Host("m1").DialContext)
	}))
	return a, func(host string) int { return d.To(host + ":2380") }
}

// TestShortStreamsAreDialledLess: a peer that accepts streams, says a heartbeat and closes them is dialled less and less often,
// as one that refuses is, and neither fills the log.
func TestShortStreamsAreDialledLess(t *testing.T) {
	for name, says := range map[string]func(r *http.Request, beat func()){
		"a heartbeat": func(_ *http.Request, beat func()) { beat() },
		"nothing":     func(*http.Request, func()) {},
		"heartbeats for a second": func(_ *http.Request, beat func()) {
			for range 10 {
				beat()
				time.Sleep(100 * time.Millisecond)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				streamServer(t, n, says)
				logs, lines := testmember.Logged(zap.NewAtomicLevelAt(zap.InfoLevel))
				a, dials := dialling(t, n, testmember.Tuned(logs, func(tr *rafthttp.Transport) { tr.ReadTimeout = time.Minute })) // few probes
				a.AddPeer(2, []string{testmember.URLOf(2)})
				time.Sleep(10 * time.Second)
				require.LessOrEqual(t, dials("m2"), 2*15)
				before := dials("m2")
				time.Sleep(time.Minute)
				require.LessOrEqual(t, dials("m2")-before, 2*60)
				require.Greater(t, dials("m2")-before, 2*20)
				requireLimited(t, lines, 70*time.Second)
				require.LessOrEqual(t, lines.Len(), 100)
			})
		})
	}
}

// requireLimited requires that no message came more often than docs/operating.md says.
func requireLimited(t *testing.T, lines *observer.ObservedLogs, during time.Duration) {
	t.Helper()
	require.NotZero(t, lines.Len())
	byMessage := map[string]int{}
	for _, e := range lines.All() {
		key := e.Message + " " + e.ContextMap()["local-member-id"].(string)
		byMessage[key]++
	}
	for message, n := range byMessage {
		require.LessOrEqual(t, n, 10+int(10*during.Minutes()), message)
	}
}

// TestPauseStartsOverAfterAStreamThatLived: and only then.
func TestPauseStartsOverAfterAStreamThatLived(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		var mu sync.Mutex
		lives := time.Duration(0)
		streamServer(t, n, func(_ *http.Request, beat func()) {
			mu.Lock()
			d := lives
			mu.Unlock()
			beat()
			for end := time.Now().Add(d); time.Now().Before(end); beat() {
				time.Sleep(500 * time.Millisecond)
			}
		})
		a := testmember.StartSimulated(t, n, 1, nil)
		a.AddPeer(2, []string{testmember.URLOf(2)})
		connects := func() (n uint64) {
			for _, s := range a.Status().Peers[0].Streams {
				n += s.Connects
			}
			return n
		}
		time.Sleep(time.Minute)
		mu.Lock()
		lives = 2 * testmember.ReadTimeout
		mu.Unlock()
		testmember.Within(t, 3*time.Second, func() bool { return a.ActivePeers() == 1 && a.Status().Peers[0].Streams[2].Up })
		time.Sleep(testmember.ReadTimeout)
		mu.Lock()
		lives = 0
		mu.Unlock()
		before := connects()
		testmember.Within(t, 2*testmember.ReadTimeout, func() bool { return connects() > before })
		time.Sleep(time.Second) // 0, 150, 375, 713 ms, and up to a quarter more
		require.GreaterOrEqual(t, connects()-before, uint64(4))
		time.Sleep(20 * time.Second)
		before = connects()
		time.Sleep(10 * time.Second)
		require.LessOrEqual(t, connects()-before, uint64(2*10))
	})
}

// TestMemberIDThatExistsTwice: two members with one id displace each other's streams; that costs the third neither a busy network
// nor its log.
func TestMemberIDThatExistsTwice(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		logs, lines := testmember.Logged(zap.NewAtomicLevelAt(zap.InfoLevel))
		a, dials := dialling(t, n, logs)
		var all []string
		for _, host := range []string{"m2", "double"} {
			ln, err := n.Host(host).Listen("2380")
			require.NoError(t, err)
			url := "http://" + host + ":2380"
			all = append(all, url)
			b := testmember.StartAt(t, ln, url, 2, func(tr *rafthttp.Transport) {
				tr.DialContext = n.Host(host).DialContext
			})
			b.AddPeer(1, []string{a.URL})
		}
		a.AddPeer(2, all)
		time.Sleep(30 * time.Second)
		require.LessOrEqual(t, dials("m2")+dials("double"), 100)
		requireLimited(t, lines, 30*time.Second)
		require.LessOrEqual(t, lines.Len(), 60)
	})
}
