package operating_test

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

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
