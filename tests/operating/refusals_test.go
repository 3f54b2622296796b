package operating_test

import (
	"crypto/tls"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// TestHealthOfRefusals: messages that Send may not be given, and refusals of a wrong identity or of another cluster, are problems
// while they go on, at the member that sees them: of the peer that is stated, or of nobody.
func TestHealthOfRefusals(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		var refuses atomic.Uint64 // the member that VerifyPeer refuses
		a := start(t, n, 1, func(tr *rafthttp.Transport) {
			tr.VerifyPeer = func(id types.ID, _ *tls.ConnectionState) error {
				if uint64(id) == refuses.Load() {
					return errors.New("not its certificate")
				}
				return nil
			}
		})
		b, c := start(t, n, 2, nil), start(t, n, 9, nil)
		meet(a, b)
		d := start(t, n, 8, func(tr *rafthttp.Transport) { tr.ClusterID = 0xd1 })
		time.Sleep(time.Minute)
		requireHealth(t, a, rafthttp.SeverityNone)
		warning := func(peer types.ID, kind, cause, anchor string, since time.Time) rafthttp.Problem {
			return rafthttp.Problem{Severity: rafthttp.SeverityWarning, Kind: kind, Peer: peer, Since: since, Cause: cause, Anchor: anchor}
		}
		during := func(send func(), sends int) (since time.Time) {
			since = time.Now()
			for range sends {
				send()
				time.Sleep(2 * time.Second)
			}
			return since
		}
		over := func() {
			t.Helper()
			time.Sleep(10 * time.Second)
			requireHealth(t, a, rafthttp.SeverityNone)
		}

		since := during(func() { a.Send([]*raftpb.Message{heartbeat(1, 1), heartbeat(1, 1)}) }, 5)
		requireHealth(t, a, rafthttp.SeverityWarning, warning(0, "local_messages",
			"Send drops messages for the member itself or raft's local threads, 1.0/s: see SplitMessages", "messages-are-dropped", since))
		over()
		since = during(func() { b.Send([]*raftpb.Message{heartbeat(7, 1)}) }, 5) // forged
		h := a.Health()
		require.Equal(t, []rafthttp.Problem{
			warning(2, "drops", "drops 0.5/s: refused", "messages-are-dropped", since),
			warning(2, "identity_refused", "refuses its identity, 0.5/s: messages", "health", since),
		}, h.Problems)
		over()

		refuses.Store(9)
		c.AddPeer(1, urls(1))
		time.Sleep(9 * time.Second)
		h = a.Health()
		require.Len(t, h.Problems, 1)
		require.Equal(t, types.ID(0), h.Problems[0].Peer)
		require.Regexp(t, `^refuses clients that are no peers, \d+(\.\d)?/s: requests$`, h.Problems[0].Cause)
		c.RemovePeer(1)
		over()
		d.AddPeer(1, urls(1))
		time.Sleep(9 * time.Second)
		h = a.Health()
		require.Len(t, h.Problems, 1)
		require.Regexp(t, `^refuses clients that are no peers, \d+(\.\d)?/s: requests of another cluster$`, h.Problems[0].Cause)
		d.RemovePeer(1)
		over()

		refuses.Store(2)
		time.Sleep(20 * time.Second) // TLSRecheck
		h = a.Health()
		require.Equal(t, "no_majority", h.Problems[0].Kind)
		require.True(t, slices.ContainsFunc(h.Problems, func(p rafthttp.Problem) bool {
			return p.Kind == "identity_refused" && p.Peer == 2 && strings.HasSuffix(p.Cause, ": dials, requests")
		}), "%v", h.Problems)
		st := a.Status()
		require.Equal(t, st.Peers[0].Refused.Dials, st.Refused.Dials)
		require.Zero(t, st.Refusing)
		refuses.Store(0)
		time.Sleep(time.Minute)
		over()
	})
}
