package operating_test

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// TestPeerThatReturnsIsNotBlamedForProbes: those of the time when it was down are no fault of it, and of nothing between the members.
func TestPeerThatReturnsIsNotBlamedForProbes(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		all := cluster(t, n, 2, nil)
		a := all[0]
		time.Sleep(time.Minute)
		all[1].Stop()
		require.NoError(t, all[1].server.Close())
		for range 10 {
			time.Sleep(10*time.Minute + 300*time.Millisecond)
			b := start(t, n, 2, nil)
			b.AddPeer(1, urls(1))
			for range 200 {
				time.Sleep(50 * time.Millisecond)
				for _, p := range a.Health().Problems {
					require.NotEqual(t, "probes_fail", p.Kind, "active for %s: %s, since %s", time.Since(a.ActiveSince(2)), p.Cause, time.Since(p.Since))
				}
			}
			b.Stop()
			require.NoError(t, b.server.Close())
		}
	})
}

// TestClockIsKnownToHalfARoundTrip: what may be the line is no fault of the clock, as for the log.
func TestClockIsKnownToHalfARoundTrip(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		a, b := start(t, n, 1, nil), start(t, n, 2, nil, func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == rafthttp.ProbingPrefix {
					time.Sleep(1800 * time.Millisecond) // a full buffer on the way to it; its clock is 0.2 s ahead
					_ = json.NewEncoder(w).Encode(map[string]any{"OK": true, "Now": time.Now().Add(200 * time.Millisecond)})
					return
				}
				h.ServeHTTP(w, r)
			})
		})
		meet(a, b)
		time.Sleep(2 * time.Minute)
		require.NotZero(t, a.peer(t, 2).ProbedAt)
		require.Zero(t, a.logs.FilterMessage("the clock of the peer differs from ours").Len())
		require.Empty(t, a.Health().Problems)
	})
}

// TestProbesFailSinceTheMove: at the new URLs of a peer probes cannot have failed before it had them.
func TestProbesFailSinceTheMove(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		all := cluster(t, n, 2, nil)
		a, b := all[0], all[1]
		serve(t, n, "elsewhere", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == rafthttp.ProbingPrefix {
				http.Error(w, "a proxy answers", http.StatusBadGateway)
				return
			}
			b.Handler().ServeHTTP(w, r)
		}))
		time.Sleep(time.Hour)
		require.Empty(t, a.Health().Problems)
		active := a.ActiveSince(2)
		stay := func() { // active while streams move: a POST has just succeeded
			a.Send([]*raftpb.Message{{
				Type: raftpb.MsgSnap.Enum(), To: new(uint64(2)), From: new(uint64(1)), Term: new(uint64(1)),
				Snapshot: &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: new(uint64(1)), Term: new(uint64(1))}},
			}})
			time.Sleep(time.Second)
		}
		for range 2 {
			stay()
			a.UpdatePeer(2, []string{"http://elsewhere:80"})
			moved := time.Now()
			time.Sleep(5*time.Minute - time.Second)
			require.Equal(t, active, a.ActiveSince(2))
			require.NotEmpty(t, a.peer(t, 2).ProbeError)
			require.Empty(t, a.Health().Problems)
			time.Sleep(2 * time.Second)
			require.Len(t, a.Health().Problems, 1)
			p := a.Health().Problems[0]
			require.Equal(t, "probes_fail", p.Kind)
			require.Equal(t, moved, p.Since)
			time.Sleep(time.Hour)
			require.Equal(t, moved, a.Health().Problems[0].Since)
			stay()
			a.UpdatePeer(2, urls(2))
			time.Sleep(time.Minute)
			require.Empty(t, a.Health().Problems)
		}
	})
}
