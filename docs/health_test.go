package docs_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/memnet/rafttest"
)

// health is what the probes of a member ask. The Ready loop keeps it, so that no probe waits for raft or for the disk. Times are in
// nanoseconds since 1970.
type health struct {
	transport *rafthttp.Transport
	turned    atomic.Int64  // when the loop last made a turn
	applied   atomic.Uint64 // index
	answered  atomic.Int64  // when a leader last confirmed that it leads
	commit    atomic.Uint64 // its commit index then
}

const (
	hungAfter  = time.Minute     // longer than any stall of the disk that passes
	askEvery   = time.Second     // between two questions to the leader
	staleAfter = 5 * time.Second // some answers are missing
	maxBehind  = 10_000          // entries; about what is applied in a second
)

// handler is for the port of clients or operators, not for the peer URL.
func (h *health) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", h.live)
	mux.HandleFunc("GET /readyz", h.ready)
	mux.HandleFunc("GET /peersz", h.peers)
	return mux
}

// live fails if only a restart of this process can help.
func (h *health) live(w http.ResponseWriter, _ *http.Request) {
	if age := time.Since(time.Unix(0, h.turned.Load())); age > hungAfter {
		http.Error(w, "the Ready loop does not run", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

// ready fails if clients should go to another member.
func (h *health) ready(w http.ResponseWriter, _ *http.Request) {
	switch commit, applied := h.commit.Load(), h.applied.Load(); {
	case time.Since(time.Unix(0, h.answered.Load())) > staleAfter:
		http.Error(w, "no leader with a majority answers", http.StatusServiceUnavailable)
	case commit > applied+maxBehind:
		http.Error(w, fmt.Sprintf("%d entries behind", commit-applied), http.StatusServiceUnavailable)
	default:
		fmt.Fprintln(w, "ok")
	}
}

// peers fails if a peer is inactive: for an alert, not for a restart.
func (h *health) peers(w http.ResponseWriter, _ *http.Request) {
	var inactive []string
	for _, p := range h.transport.Status().Peers {
		if !p.Active {
			inactive = append(inactive, fmt.Sprintf("%s is inactive: %s", p.ID, p.LastError))
		}
	}
	if len(inactive) > 0 {
		http.Error(w, strings.Join(inactive, "\n"), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

// ask asks the leader for its commit index, by a linearizable read. Without a leader raft drops the question.
func (h *health) ask(ctx context.Context, node raft.Node, now time.Time) error {
	return node.ReadIndex(ctx, fmt.Append(nil, "health ", now.UnixNano()))
}

// note takes in a Ready.
func (h *health) note(rd raft.Ready) {
	for _, s := range rd.ReadStates { // also those of clients, which prove as much
		h.commit.Store(s.Index)
		h.answered.Store(time.Now().UnixNano())
	}
	if !raft.IsEmptySnap(rd.Snapshot) {
		h.applied.Store(rd.Snapshot.GetMetadata().GetIndex())
	}
}

// healthy is a member with health, whose disk can hang.
type healthy struct {
	raft.Node
	health health
	disk   chan struct{} // full: the disk hangs
}

// Process has nothing to check.
func (m *healthy) Process(ctx context.Context, msg *raftpb.Message) error { return m.Step(ctx, msg) }
func (m *healthy) IsIDRemoved(uint64) bool                                { return false } // members never change

func (m *healthy) run(ctx context.Context, memory *raft.MemoryStorage) error {
	defer m.Stop()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	asked := time.Now()
	for {
		m.health.turned.Store(time.Now().UnixNano()) // at each tick at least
		select {
		case now := <-ticker.C:
			m.Tick()
			if now.Sub(asked) >= askEvery {
				asked = now
				if err := m.health.ask(ctx, m.Node, now); err != nil {
					return err
				}
			}
		case rd := <-m.Ready():
			m.health.note(rd)
			if err := m.save(memory, rd); err != nil {
				return err
			}
			m.health.transport.Send(rd.Messages)
			for _, e := range rd.CommittedEntries { // and apply them
				m.health.applied.Store(e.GetIndex())
			}
			m.Advance()
		case <-ctx.Done():
			return nil
		}
	}
}

func (m *healthy) save(memory *raft.MemoryStorage, rd raft.Ready) error {
	m.disk <- struct{}{}
	defer func() { <-m.disk }()
	if !raft.IsEmptyHardState(rd.HardState) {
		if err := memory.SetHardState(rd.HardState); err != nil {
			return err
		}
	}
	return memory.Append(rd.Entries)
}

// ask asks one of the paths of a handler.
func ask(h http.Handler, path string) (code int, body string) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Code, strings.TrimSpace(w.Body.String())
}

// TestHealth: a member that is cut off is alive and not ready, and the others are both; one whose disk hangs is not alive, although it
// answers probes at its peer URL.
func TestHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, end := context.WithCancel(t.Context())
		c, members, handlers := rafttest.New(t, rafttest.Config{Members: 3}), map[uint64]*healthy{}, map[uint64]http.Handler{}
		var loops sync.WaitGroup
		for id := uint64(1); id <= 3; id++ {
			memory := raft.NewMemoryStorage()
			require.NoError(t, memory.ApplySnapshot(&raftpb.Snapshot{Metadata: stateAt(1, 1).GetMetadata()}))
			m := &healthy{disk: make(chan struct{}, 1), Node: raft.RestartNode(&raft.Config{
				ID: id, Storage: memory, ElectionTick: 10, HeartbeatTick: 1, MaxSizePerMsg: 1 << 20, MaxInflightMsgs: 256,
				PreVote: true, CheckQuorum: true, Logger: quietLogger,
			})}
			code, _ := ask(m.health.handler(), "/livez")
			require.Equal(t, http.StatusServiceUnavailable, code, "the loop does not run yet")
			members[id], handlers[id] = m, m.health.handler()
			m.health.transport = c.Start(id, m).Transport
			loops.Go(func() {
				if err := m.run(ctx, memory); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			})
		}
		// is returns what a member answers.
		is := func(id uint64, path string, want int) string {
			t.Helper()
			code, body := ask(handlers[id], path)
			require.Equal(t, want, code, "member %d, %s: %s", id, path, body)
			return body
		}
		time.Sleep(10 * time.Second)
		for id := range members {
			is(id, "/livez", 200)
			is(id, "/readyz", 200)
			is(id, "/peersz", 200)
		}

		c.Partition([]uint64{1}, []uint64{2, 3})
		time.Sleep(30 * time.Second)
		is(1, "/livez", 200)
		require.Equal(t, "no leader with a majority answers", is(1, "/readyz", 503))
		is(2, "/readyz", 200)
		is(3, "/readyz", 200)
		require.Contains(t, is(2, "/peersz", 503), "1 is inactive: ")

		c.Heal()
		time.Sleep(30 * time.Second)
		is(1, "/readyz", 200)
		applied := members[1].health.applied.Swap(0) // as if it had applied nothing yet
		members[1].health.commit.Store(maxBehind + 1)
		require.Equal(t, "10001 entries behind", is(1, "/readyz", 503))
		members[1].health.applied.Store(applied)
		members[3].disk <- struct{}{}
		go func() { _ = members[3].Propose(ctx, []byte("something to save")) }()
		time.Sleep(30 * time.Second)
		is(3, "/livez", 200)
		time.Sleep(time.Minute)
		require.Equal(t, "the Ready loop does not run", is(3, "/livez", 503))
		code, body := ask(members[3].health.transport.Handler(), "/raft/probing")
		require.Equal(t, http.StatusOK, code, body)
		require.Equal(t, 2, members[3].health.transport.ActivePeers())
		<-members[3].disk
		time.Sleep(30 * time.Second)
		is(3, "/livez", 200)
		end()
		loops.Wait()
	})
}

// TestProbedPeerPort: with mutual TLS, a probe by HTTPS without a certificate fails, and is logged as a failed handshake.
func TestProbedPeerPort(t *testing.T) {
	logged, lines := observer.New(zap.WarnLevel)
	tlsInfo, err := transport.SelfCert(zap.NewNop(), t.TempDir(), []string{"127.0.0.1"}, 1)
	require.NoError(t, err)
	tlsInfo.TrustedCAFile, tlsInfo.ClientCertAuth, tlsInfo.Logger = tlsInfo.CertFile, true, nil
	ln, err := rafthttp.NewListener(url.URL{Scheme: "https", Host: "127.0.0.1:0"}, &tlsInfo)
	require.NoError(t, err)
	tr := &rafthttp.Transport{ID: 1, ClusterID: readmeCluster, Raft: deaf{}, Logger: zap.New(logged)}
	require.NoError(t, tr.Start())
	defer tr.Stop()
	server := rafthttp.NewServer(tr.Handler())
	defer server.Close()
	go func() { _ = server.Serve(ln) }()
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+ln.Addr().String()+"/raft/probing", nil)
	require.NoError(t, err)
	resp, err := client.Do(req)
	if err == nil {
		resp.Body.Close()
	}
	require.ErrorContains(t, err, "certificate required")
	require.Eventually(t, func() bool {
		return lines.FilterMessage("a TLS handshake failed; further ones like it are not logged for a while").Len() == 1
	}, 10*time.Second, 5*time.Millisecond)
}

// TestProbesOfHealthChecks: each path and number of the example probes is served.
func TestProbesOfHealthChecks(t *testing.T) {
	served := (&health{transport: &rafthttp.Transport{}}).handler()
	paths := regexp.MustCompile(`(?:path: |127\.0\.0\.1:8001|httpchk GET )(/[a-z]+)`).FindAllStringSubmatch(read(t, "health-checks.md"), -1)
	require.GreaterOrEqual(t, len(paths), 6)
	for _, m := range paths {
		code, _ := ask(served, m[1])
		require.NotEqual(t, http.StatusNotFound, code, m[1])
	}
}
