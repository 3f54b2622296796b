package operating_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/statuspage"
)

// cluster runs members 1 to n, which know each other.
func cluster(t *testing.T, net *memnet.Network, n types.ID, tune func(*rafthttp.Transport)) (all []*node) {
	t.Helper()
	for id := types.ID(1); id <= n; id++ {
		all = append(all, start(t, net, id, tune))
	}
	meet(all...)
	return all
}

// requireHealth requires these problems of a member, and nothing else, and that the status page says the same.
func requireHealth(t *testing.T, m *node, severity rafthttp.Severity, want ...rafthttp.Problem) {
	t.Helper()
	h := m.Health()
	require.Equal(t, severity, h.Severity, "%v", h.Problems)
	require.Equal(t, want, append([]rafthttp.Problem(nil), h.Problems...))

	w := httptest.NewRecorder()
	statuspage.Handler(m.Transport, nil).ServeHTTP(w, httptest.NewRequest("GET", "/?format=health", nil))
	require.Equal(t, severity >= rafthttp.SeverityCritical, w.Code == 503, "%d", w.Code)
	lines := strings.Split(strings.TrimSpace(w.Body.String()), "\n")
	if len(want) == 0 {
		require.Equal(t, []string{"ok"}, lines)
		return
	}
	require.Len(t, lines, len(want))
	for i, p := range want {
		of := "this member"
		if p.Peer != 0 {
			of = "peer " + p.Peer.String()
		}
		since := ""
		if !p.Since.IsZero() {
			since = " since " + p.Since.UTC().Format(time.RFC3339)
		}
		require.Equal(t, fmt.Sprintf("%s %s: %s: %s%s (docs/operating.md#%s)", p.Severity, p.Kind, of, p.Cause, since, p.Anchor), lines[i])
	}
	page := httptest.NewRecorder()
	statuspage.Handler(m.Transport, nil).ServeHTTP(page, httptest.NewRequest("GET", "/?format=text", nil))
	for _, p := range want {
		if p.Severity < rafthttp.SeverityCritical {
			require.Contains(t, page.Body.String(), p.Cause)
		}
	}
}

// TestHealth: each thing that is wrong is a problem with its peer, its cause, and since when, for as long as it is.
func TestHealth(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		m := transport(n, 1)
		requireHealth(t, m, rafthttp.SeverityCritical, rafthttp.Problem{
			Severity: rafthttp.SeverityCritical, Kind: "not_started", Cause: "the transport is not started", Anchor: "health",
		})
		all := cluster(t, n, 3, nil)
		a := all[0]
		time.Sleep(5 * time.Second)
		requireHealth(t, a, rafthttp.SeverityNone)

		down := time.Now()
		all[1].Stop()
		time.Sleep(5 * time.Second)
		inactive := func(id types.ID, since time.Time) rafthttp.Problem {
			return rafthttp.Problem{
				Severity: rafthttp.SeverityError, Kind: "peer_inactive", Peer: id, Since: since,
				Cause: "down: unexpected http status 503: rafthttp: transport stopped", Anchor: "a-peer-is-inactive",
			}
		}
		requireHealth(t, a, rafthttp.SeverityError, inactive(2, down))
		later := time.Now()
		all[2].Stop()
		time.Sleep(5 * time.Second)
		requireHealth(t, a, rafthttp.SeverityCritical, rafthttp.Problem{
			Severity: rafthttp.SeverityCritical, Kind: "no_majority", Since: later, Cause: "0 of 2 peers active, no majority if all of them vote", Anchor: "a-peer-is-inactive",
		}, inactive(2, down), inactive(3, later))
		a.Stop()
		requireHealth(t, a, rafthttp.SeverityCritical, rafthttp.Problem{
			Severity: rafthttp.SeverityCritical, Kind: "stopped", Cause: "the transport is stopped", Anchor: "health",
		})
	})
}

// TestHealthOfStreams: one direction that is down, and streams that flap.
func TestHealthOfStreams(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		a, b := start(t, n, 1, nil), start(t, n, 2, nil)
		a.AddPeer(2, urls(2))
		b.AddPeer(1, []string{"http://nobody:80"})
		added := time.Now()
		time.Sleep(5 * time.Second)
		requireHealth(t, a, rafthttp.SeverityWarning, rafthttp.Problem{
			Severity: rafthttp.SeverityWarning, Kind: "stream_down", Peer: 2, Since: added, Cause: "a stream to it is down", Anchor: "a-peer-is-inactive",
		})
		b.UpdatePeer(1, urls(1))
		time.Sleep(time.Minute)
		requireHealth(t, a, rafthttp.SeverityNone)
		first := time.Now()
		for range 5 {
			n.Reset(host(1), host(2))
			time.Sleep(10 * time.Second)
		}
		h := a.Health()
		require.Equal(t, rafthttp.SeverityWarning, h.Severity)
		require.Len(t, h.Problems, 4, "of each stream: %v", h.Problems)
		for _, p := range h.Problems {
			require.Equal(t, "stream_flaps", p.Kind)
			require.Regexp(t, `^stream (message|msgapp) (to|from) it reconnected 5 times in (49|50) s$`, p.Cause)
			require.WithinDuration(t, first, p.Since, time.Second)
		}
		time.Sleep(40 * time.Second)
		requireHealth(t, a, rafthttp.SeverityNone)
	})
}

// TestHealthOfQueues: a queue that does not move, one that is full, and messages that are dropped.
func TestHealthOfQueues(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		stuck := make(chan struct{})
		a := start(t, n, 1, nil)
		b := start(t, n, 2, func(tr *rafthttp.Transport) {
			tr.ReceiveQueueMessages = 4
			tr.Raft.(*reports).process = func(ctx context.Context, _ *raftpb.Message) error {
				select {
				case <-stuck:
				case <-ctx.Done():
				}
				return nil
			}
		})
		meet(a, b)
		time.Sleep(time.Second)
		began := time.Now()
		a.Send([]*raftpb.Message{heartbeat(1, 2)})
		time.Sleep(3 * time.Second)
		problem := func(s rafthttp.Severity, kind, lane, cause, anchor string, since time.Time) rafthttp.Problem {
			return rafthttp.Problem{Severity: s, Kind: kind, Peer: 1, Lane: lane, Since: since, Cause: cause, Anchor: anchor}
		}
		const control = "queue control (heartbeats, votes, responses from it) "
		requireHealth(t, b, rafthttp.SeverityWarning, problem(rafthttp.SeverityWarning, "queue_old", "control", control+"has a message that has waited for 3.0 s", "a-lane-is-slow", began))
		dropped := time.Now()
		a.Send([]*raftpb.Message{heartbeat(1, 2), heartbeat(1, 2), heartbeat(1, 2), heartbeat(1, 2), heartbeat(1, 2)})
		time.Sleep(2 * time.Second)
		requireHealth(t, b, rafthttp.SeverityError,
			problem(rafthttp.SeverityError, "queue_full", "control", control+"is 100 % full", "a-lane-is-slow", dropped),
			problem(rafthttp.SeverityWarning, "drops", "", "drops 1.0/s: queue full", "messages-are-dropped", dropped))
		requireHealth(t, a, rafthttp.SeverityNone)
		close(stuck)
		time.Sleep(11 * time.Second)
		requireHealth(t, b, rafthttp.SeverityNone)
	})
}

// TestHealthOfSnapshots: a snapshot that failed, at both ends.
func TestHealthOfSnapshots(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		a := start(t, n, 1, nil)
		b := start(t, n, 2, func(tr *rafthttp.Transport) { tr.Snapshotter = &disk{} })
		meet(a, b)
		time.Sleep(time.Second)
		failed := time.Now()
		a.SendSnapshot(snapshot(1, 2, strings.NewReader("db"), 2))
		time.Sleep(time.Second)
		for m, says := range map[*node]string{a: "the last snapshot to it failed: ", b: "the last snapshot from it failed: "} {
			h := m.Health()
			require.Len(t, h.Problems, 1)
			p := h.Problems[0]
			require.Equal(t, "snapshot_failed", p.Kind)
			require.Equal(t, map[*node]types.ID{a: 2, b: 1}[m], p.Peer)
			require.Contains(t, p.Cause, says)
			require.Contains(t, p.Cause, "disk full")
			require.WithinDuration(t, failed, p.Since, time.Second)
		}
		time.Sleep(10 * time.Minute)
		requireHealth(t, a, rafthttp.SeverityNone)
		requireHealth(t, b, rafthttp.SeverityNone)
	})
}

// TestHealthOfSnapshotsOfStrangers: a snapshot of a member that is no peer neither is a problem nor ends one, and one of a peer ends
// only its own.
func TestHealthOfSnapshotsOfStrangers(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		store := &disk{}
		b := start(t, n, 2, func(tr *rafthttp.Transport) { tr.Snapshotter = store })
		senders := map[types.ID]*node{}
		for _, id := range []types.ID{1, 3, 9} {
			senders[id] = start(t, n, id, nil)
			senders[id].AddPeer(2, urls(2))
			if id != 9 {
				b.AddPeer(id, urls(id))
			}
		}
		time.Sleep(time.Second)
		send := func(from types.ID, index uint64, room bool) {
			store.room.Store(room)
			m := snapshot(from, 2, strings.NewReader("db"), 2)
			m.Snapshot.Metadata.Index = &index
			senders[from].SendSnapshot(m)
			time.Sleep(time.Second)
			if index != slowIndex {
				require.Equal(t, from, b.Status().LastReceived.Peer)
			}
		}
		failed := func(want ...types.ID) {
			t.Helper()
			var peers []types.ID
			for _, p := range b.Health().Problems {
				require.Equal(t, "snapshot_failed", p.Kind)
				peers = append(peers, p.Peer)
			}
			require.Equal(t, want, peers)
		}
		send(9, 1, false)
		failed()
		send(1, 1, false)
		send(3, 1, false)
		failed(1, 3)
		send(9, 1, true)
		failed(1, 3)
		send(3, 2, true)
		failed(1)
		time.Sleep(10 * time.Minute)
		failed()
		send(9, slowIndex, true)
		failed()
		send(1, slowIndex, true)
		failed(1)
		time.Sleep(2 * time.Minute)
		failed()
		send(1, 3, false)
		failed(1)
		b.RemovePeer(1)
		b.AddPeer(1, urls(1))
		time.Sleep(time.Second)
		failed()
	})
}

// TestWaitActive waits for as many peers as are asked for, and ends with the context, with Stop, and at once before Start.
func TestWaitActive(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		require.Error(t, transport(n, 1).WaitActive(t.Context(), 0))
		a := start(t, n, 1, nil)
		require.NoError(t, a.WaitActive(t.Context(), 0))
		began := time.Now()
		wait := func(ctx context.Context, n int) (took time.Duration, err error) {
			err = a.WaitActive(ctx, n)
			return time.Since(began), err
		}
		for id := types.ID(2); id <= 3; id++ {
			a.AddPeer(id, urls(id))
		}
		type result struct {
			n    int
			err  error
			took time.Duration
		}
		results := make(chan result, 4)
		for i := range 4 {
			ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Minute, errors.New("too long"))
			t.Cleanup(cancel)
			go func() {
				took, err := wait(ctx, i)
				results <- result{i, err, took}
			}()
		}
		synctest.Wait()
		require.Len(t, results, 1)
		for id := types.ID(2); id <= 3; id++ {
			time.Sleep(10 * time.Second)
			start(t, n, id, nil).AddPeer(1, urls(1))
		}
		time.Sleep(9 * time.Minute)
		require.Len(t, results, 3)
		time.Sleep(2 * time.Minute)
		var all []result
		for range 4 {
			all = append(all, <-results)
		}
		slices.SortFunc(all, func(a, b result) int { return a.n - b.n })
		for i, least := range []time.Duration{0, 10 * time.Second, 20 * time.Second} {
			require.NoError(t, all[i].err)
			require.GreaterOrEqual(t, all[i].took, least)
			require.Less(t, all[i].took, least+2*time.Second)
		}
		require.EqualError(t, all[3].err, "too long")

		ended := make(chan error)
		go func() { ended <- a.WaitActive(context.Background(), 100) }()
		synctest.Wait()
		a.Stop()
		require.ErrorIs(t, <-ended, rafthttp.ErrStopped)
	})
}
