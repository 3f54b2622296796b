package operating_test

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// TestStaleValuesAreMarked: what was measured of a peer before it became inactive is marked in its status, and so is what probes
// do not measure any more. A peer that was removed and added again begins without it.
func TestStaleValuesAreMarked(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		n.Link(host(1), host(2)).SetDelay(10 * time.Millisecond)
		var refuses atomic.Bool
		a, b := start(t, n, 1, nil), start(t, n, 2, nil, func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if refuses.Load() && r.URL.Path == rafthttp.ProbingPrefix {
					http.NotFound(w, r)
					return
				}
				h.ServeHTTP(w, r)
			})
		})
		meet(a, b)
		require.False(t, a.peer(t, 2).ProbeStale, "there is nothing yet")
		require.False(t, a.peer(t, 2).VersionStale)
		marks := func(probe, version bool) {
			t.Helper()
			p := a.peer(t, 2)
			require.Positive(t, p.RTT)
			require.Equal(t, "3.7.0", p.Version)
			require.Equal(t, probe, p.ProbeStale)
			require.Equal(t, version, p.VersionStale)
		}
		time.Sleep(time.Minute)
		marks(false, false)
		refuses.Store(true)
		time.Sleep(4 * time.Minute)
		marks(false, false)
		time.Sleep(2 * time.Minute)
		marks(true, false)
		refuses.Store(false)
		time.Sleep(time.Minute)
		marks(false, false)
		n.Host(host(2)).Crash()
		time.Sleep(time.Minute)
		marks(true, true)
		a.RemovePeer(2)
		a.AddPeer(2, urls(2))
		require.Zero(t, a.peer(t, 2).RTT)
		require.Empty(t, a.peer(t, 2).Version)
		require.Equal(t, types.ID(2), a.peer(t, 2).ID)
	})
}

// TestUpdatePeerForgetsTheFormerAddress: what was measured at the URLs of a peer before says nothing of its new ones, and neither
// does a probe that ends later.
func TestUpdatePeerForgetsTheFormerAddress(t *testing.T) {
	for _, late := range []bool{false, true} {
		simulate(t, func(t *testing.T, n *memnet.Network) {
			n.Link(host(1), host(2)).SetDelay(10 * time.Millisecond)
			var mode atomic.Int32 // of probes: 0 answered, 1 refused, 2 answered after 3 s, 3 refused after 3 s
			probes := make(chan struct{}, 1000)
			a, b := start(t, n, 1, nil), start(t, n, 2, nil, func(h http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == rafthttp.ProbingPrefix {
						now := mode.Load()
						probes <- struct{}{}
						if now >= 2 {
							time.Sleep(3 * time.Second)
						}
						if now%2 == 1 {
							http.NotFound(w, r)
							return
						}
					}
					h.ServeHTTP(w, r)
				})
			})
			meet(a, b)
			time.Sleep(time.Minute)
			require.Positive(t, a.peer(t, 2).RTT)
			mode.Store(1)
			time.Sleep(time.Minute)
			require.Contains(t, a.peer(t, 2).ProbeError, "404")
			move := func() {
				t.Helper()
				a.UpdatePeer(2, urls(3))
				if late {
					time.Sleep(4 * time.Second)
				}
				p := a.peer(t, 2)
				require.NotContains(t, p.ProbeError, "404")
				require.Zero(t, p.RTT)
				require.Zero(t, p.ClockOffset)
				require.Zero(t, p.ProbedAt)
				require.False(t, p.ProbeStale)
			}
			for _, m := range []int32{3, 2} {
				if late {
					mode.Store(m)
					for len(probes) > 0 {
						<-probes
					}
					<-probes
				}
				move()
				mode.Store(0)
				a.UpdatePeer(2, urls(2))
				time.Sleep(time.Minute)
				require.Positive(t, a.peer(t, 2).RTT)
				require.Empty(t, a.peer(t, 2).ProbeError)
			}
			mode.Store(1)
			time.Sleep(6 * time.Minute) // active for longer than that
			a.UpdatePeer(2, append(urls(2), urls(3)...))
			time.Sleep(4 * time.Minute)
			require.NotEmpty(t, a.peer(t, 2).ProbeError)
			require.Empty(t, a.Health().Problems, "they may have failed for as long as at any other address")
			time.Sleep(2 * time.Minute)
			require.Equal(t, "probes_fail", a.Health().Problems[0].Kind)
		})
	}
}
