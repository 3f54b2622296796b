package members_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// clockServer answers probes of a simulated member 1 as member 2 with a clock, and
// on a way, of the test's choice. Nothing else is answered.
type clockServer struct {
	mu          sync.Mutex
	ahead       time.Duration // its clock
	there, back time.Duration // how long a request and its answer take

	took   chan error // an error, or nil, for each probe
	member *testmember.Member
}

func startClockServer(t *testing.T, n *memnet.Network, tune func(*rafthttp.Transport)) *clockServer {
	t.Helper()
	s := &clockServer{took: make(chan error, 100)}
	ln, err := n.Host(testmember.HostOf(2)).Listen("2380")
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.HandleFunc(rafthttp.ProbingPrefix, func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		ahead, there, back := s.ahead, s.there, s.back
		s.mu.Unlock()
		time.Sleep(there)
		now := time.Now().Add(ahead)
		time.Sleep(back)
		fmt.Fprintf(w, `{"OK":true,"Now":%q}`, now.Format(time.RFC3339Nano))
	})
	server, served := &http.Server{Handler: mux}, make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(ln)
	}()
	t.Cleanup(func() {
		server.Close()
		<-served
	})
	s.member = testmember.StartSimulated(t, n, 1, testmember.Tuned(tune, func(tr *rafthttp.Transport) {
		tr.Observer = &rafthttp.Observer{Probed: func(_ types.ID, _, _ time.Duration, err error) { s.took <- err }}
	}))
	s.member.AddPeer(2, []string{testmember.URLOf(2)})
	return s
}

func (s *clockServer) set(ahead, there, back time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ahead, s.there, s.back = ahead, there, back
}

// probe waits for the next probe, and returns what the status says after it.
func (s *clockServer) probe(t *testing.T) rafthttp.PeerStatus {
	t.Helper()
	require.NoError(t, <-s.took)
	return testmember.PeerStatus(t, s.member, 2)
}

// TestClockOffset: it is known to half of a round trip. A probe that says less than
// was known before changes nothing, and a warning is only for what is certain.
func TestClockOffset(t *testing.T) {
	const ms, s = time.Millisecond, time.Second
	type step struct {
		ahead, there, back time.Duration
		want               time.Duration // ClockOffset after it
		warns              bool
	}
	tests := map[string][]step{
		"late from the first": {
			{there: 3 * s}, {back: 3 * s}, {there: 3 * s},
		},
		"late after one that was not": {
			{ahead: 300 * ms, there: ms, back: ms, want: 300 * ms},
			{ahead: 300 * ms, there: 3 * s, want: 300 * ms},
			{ahead: 300 * ms, back: 3 * s, want: 300 * ms},
			{ahead: 300 * ms, there: 200 * ms, want: 300 * ms},
		},
		"late after one that was lopsided": {
			{there: ms, back: 3 * ms, want: -ms},
			{there: 3 * s, back: ms / 10, want: -ms}, // further off than it can be, but not than both can be
		},
		"far, symmetrical":       {{ahead: -400 * ms, there: 300 * ms, back: 300 * ms, want: -400 * ms}},
		"beyond what is certain": {{ahead: 2200 * ms, there: 1500 * ms, back: 1500 * ms, want: 2200 * ms}},
		"late, and far off":      {{ahead: 10 * s, there: 3 * s, want: 11500 * ms, warns: true}},
		"off, set, off again": {
			{ahead: -2 * s, want: -2 * s, warns: true},
			{ahead: -2 * s, want: -2 * s},
			{ahead: -2 * s, back: 3 * s, want: -2 * s},
			{ahead: 0, want: 0},
			{ahead: 999 * ms, want: 999 * ms},
			{ahead: 1001 * ms, want: 1001 * ms, warns: true},
		},
		"better and better": {
			{ahead: 100 * ms, there: 800 * ms, want: 500 * ms},
			{ahead: 100 * ms, there: 80 * ms, want: 140 * ms},
			{ahead: 100 * ms, there: 8 * ms, want: 104 * ms},
			{ahead: 100 * ms, there: 80 * ms, want: 104 * ms},
		},
		"hostile": {
			{ahead: 290 * 365 * 24 * time.Hour, want: 290 * 365 * 24 * time.Hour, warns: true},
			{ahead: -290 * 365 * 24 * time.Hour, back: 100 * ms, want: -290*365*24*time.Hour - 50*ms},
		},
	}
	for name, steps := range tests {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				logs, lines := testmember.Logged(zap.NewAtomicLevelAt(zap.WarnLevel))
				server := startClockServer(t, n, logs)
				var warned int
				for i, st := range steps {
					server.set(st.ahead, st.there, st.back)
					got := server.probe(t)
					require.Equal(t, st.want, got.ClockOffset, "%d", i)
					require.Equal(t, time.Now(), got.ProbedAt)
					if st.warns {
						warned++
					}
					synctest.Wait() // for the log
					require.Equal(t, warned, lines.FilterMessage("the clock of the peer differs from ours").Len(), "%d", i)
				}
			})
		})
	}
}
