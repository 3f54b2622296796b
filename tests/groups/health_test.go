package groups_test

import (
	"context"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/health"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/statuspage"
)

func healthPage(m *testmember.Member) string {
	w := httptest.NewRecorder()
	statuspage.Handler(m.Transport, nil).ServeHTTP(w, httptest.NewRequest("GET", "/?format=health", nil))
	return w.Body.String()
}

// TestHealthOfNodes: a node of groups that is down is a problem, and not the peer's with the same id; it is no lost majority.
func TestHealthOfNodes(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		ma, mb := startNode(t, n, 1), startNode(t, n, 2)
		a, b := join(t, ma, 7, nil), join(t, mb, 7, nil)
		a.AddPeer(2, []string{testmember.URLOf(2)})
		b.AddPeer(1, []string{testmember.URLOf(1)})
		time.Sleep(time.Second)
		require.Empty(t, ma.Health().Problems)
		require.Equal(t, "ok\n", healthPage(ma))

		down := time.Now()
		mb.Stop()
		time.Sleep(5 * time.Second)
		problem := rafthttp.Problem{
			Severity: rafthttp.SeverityError, Kind: "peer_inactive", Peer: 2, Groups: true, Since: down,
			Cause: "down: unexpected http status 503: rafthttp: transport stopped", Anchor: "a-peer-is-inactive",
		}
		require.Equal(t, []rafthttp.Problem{problem}, ma.Health().Problems)
		require.Contains(t, healthPage(ma), "error peer_inactive: node 2 of raft groups: down: ")

		ma.AddPeer(2, []string{testmember.URLOf(2)})
		time.Sleep(time.Second)
		all := ma.Health().Problems
		require.Len(t, all, 3)
		require.Equal(t, "no_majority", all[0].Kind)
		require.False(t, all[1].Groups)
		require.Equal(t, problem, all[2])
	})
}

// TestHealthOfBlockedGroups: a Process that blocks is a problem with its kind of messages and the group; if the pool of a kind is
// used up, which health knows the size of, it is an error.
func TestHealthOfBlockedGroups(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		ma, mb := startNode(t, n, 1), startNode(t, n, 2)
		open := make(chan struct{})
		unblock := sync.OnceFunc(func() { close(open) })
		defer unblock()
		const groups = health.ManyCalls + 10
		block := func(from, to uint64) {
			for id := from; id < to; id++ {
				a := join(t, ma, id, nil)
				a.AddPeer(2, []string{testmember.URLOf(2)})
				join(t, mb, id, func(cfg *rafthttp.GroupConfig) {
					cfg.Raft = &testmember.Recorder{OnProcess: func(context.Context, *raftpb.Message) error { <-open; return nil }}
				}).AddPeer(1, []string{testmember.URLOf(1)})
				time.Sleep(time.Second) // connects
				a.Send([]*raftpb.Message{ofKind(queue.Append, 1, 0)})
			}
		}
		block(1, 2)
		time.Sleep(2 * time.Second)
		require.Len(t, mb.Health().Problems, 1)
		p := mb.Health().Problems[0]
		require.Equal(t, rafthttp.SeverityWarning, p.Severity)
		require.Equal(t, "groups_blocked", p.Kind)
		require.Equal(t, "append", p.Lane)
		require.True(t, p.Groups)
		require.Zero(t, p.Peer)
		require.Contains(t, p.Cause, "1 call, the longest for 2.0 s by group 1")
		require.Contains(t, healthPage(mb), "warning groups_blocked: this member: Process blocks for append messages")

		block(2, groups)
		time.Sleep(2 * time.Second)
		require.Len(t, mb.Health().Problems, 2)
		p = mb.Health().Problems[0]
		require.Equal(t, "groups_blocked", p.Kind)
		require.Equal(t, rafthttp.SeverityError, p.Severity)
		require.Contains(t, p.Cause, "256 calls, the longest for ")
		require.Contains(t, p.Cause, "by group 1; those of all other groups wait")
		p = mb.Health().Problems[1]
		require.Equal(t, "queue_old", p.Kind)
		require.Equal(t, "append", p.Lane)
		unblock()
		time.Sleep(time.Second)
		require.Empty(t, mb.Health().Problems)
	})
}
