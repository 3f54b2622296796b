package groups_test

import (
	"bytes"
	"crypto/tls"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// answering starts a server on host 2 that is no node, and gives all POSTs of groups the same answer, after before has returned.
func answering(t *testing.T, n *memnet.Network, header http.Header, before func(), refusals ...wire.GroupRefusal) {
	t.Helper()
	ln, err := n.Host(testmember.HostOf(2)).Listen("2380")
	require.NoError(t, err)
	var refused wire.Batch
	for _, r := range refusals {
		wire.NewGroupEncoder().AppendRefusal(&refused, r)
	}
	var answer bytes.Buffer
	_, err = refused.WriteTo(&answer)
	require.NoError(t, err)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/raft/groups":
		case rafthttp.ProbingPrefix:
			w.Header().Set("X-Raft-Extensions", "groups-1")
			return
		default:
			http.NotFound(w, r)
			return
		}
		if before != nil {
			before()
		}
		for name := range header {
			w.Header().Set(name, header.Get(name))
		}
		_, _ = w.Write(answer.Bytes())
	})}
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(func() { srv.Close() })
}

// TestWhoMaySayRemoved: only the node of a replica of the group is believed, and only if it states our cluster.
func TestWhoMaySayRemoved(t *testing.T) {
	ours := http.Header{"X-Etcd-Cluster-Id": {testmember.PeerHeader(nil).Get("X-Etcd-Cluster-ID")}}
	other := http.Header{"X-Etcd-Cluster-Id": {"777"}}
	for name, tc := range map[string]struct {
		header http.Header
		to     uint64
		told   int
	}{
		"the node":        {ours, 2, 1},
		"another replica": {ours, 3, 0},
		"no replica":      {ours, 99, 0},
		"no cluster":      {nil, 2, 0},
		"another cluster": {other, 2, 0},
	} {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				answering(t, n, tc.header, nil, wire.GroupRefusal{Group: 1, From: 1, To: tc.to, Reason: wire.WasRemoved})
				ma, mc := startNode(t, n, 1), startNode(t, n, 3)
				removed := make(chan error, 1)
				a := join(t, ma, 1, func(c *rafthttp.GroupConfig) { c.ErrorC = removed })
				c := join(t, mc, 1, nil)
				a.AddPeer(2, []string{testmember.URLOf(2)})
				a.AddPeer(3, []string{testmember.URLOf(3)})
				c.AddPeer(1, []string{testmember.URLOf(1)})
				time.Sleep(time.Second)
				a.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1)})
				time.Sleep(time.Second)
				require.Len(t, removed, tc.told)
			})
		})
	}
}

// TestStreamOfAnotherNodeSaysRemoved: nor is a node believed, by its stream, that has no replica of the group.
func TestStreamOfAnotherNodeSaysRemoved(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		ma, mb := startNode(t, n, 1), startNode(t, n, 2)
		removed := make(chan error, 1)
		join(t, ma, 1, func(c *rafthttp.GroupConfig) { c.ErrorC = removed })
		a2 := join(t, ma, 2, nil)
		b1, b2 := join(t, mb, 1, nil), join(t, mb, 2, nil)
		a2.AddPeer(2, []string{testmember.URLOf(2)})
		b2.AddPeer(1, []string{testmember.URLOf(1)})
		b1.raft.Removed = func(uint64) bool { return true }
		time.Sleep(time.Second)
		testmember.Ask(t, mb.Transport, http.MethodPost, "/raft/groups", testmember.PeerHeader(map[string]string{"X-Server-From": "1", "X-Raft-To": "2"}),
			bytes.NewReader(batch(t, 1, testmember.Heartbeat(2, 1, 1)))) // group 1 of node 1 knows nobody
		time.Sleep(time.Second)
		require.Empty(t, removed)
	})
}

// TestAnswerOfAStranger: an answer 200 that does not state the cluster is no success of a MsgSnap.
func TestAnswerOfAStranger(t *testing.T) {
	other := http.Header{"X-Etcd-Cluster-Id": {"777"}}
	for name, header := range map[string]http.Header{"none": nil, "another": other} {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				answering(t, n, header, nil)
				a := join(t, startNode(t, n, 1), 1, nil)
				a.AddPeer(2, []string{testmember.URLOf(2)})
				time.Sleep(time.Second)
				a.Send([]*raftpb.Message{testmember.MsgSnap(2, 1, 5)})
				time.Sleep(time.Second)
				if got := a.raft.SnapshotReports(); len(got) != 1 || got[0] != raft.SnapshotFailure {
					t.Errorf("%v", got)
				}
			})
		})
	}
}

// TestManyRemovedReplicas: each of many removed replicas learns of it, whether their node is known or not, and one that
// is not removed gets the answers to it.
func TestManyRemovedReplicas(t *testing.T) {
	for _, node := range []types.ID{2, 3} { // that the other is: they send by node 2
		testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
			ma, mb := startNode(t, n, 1), startNode(t, n, node)
			here, there := join(t, ma, 1, nil), join(t, mb, 1, func(c *rafthttp.GroupConfig) { c.Replica = 12 })
			there.AddPeer(1, []string{testmember.URLOf(1)})
			join(t, ma, 2, nil).AddPeer(node, []string{testmember.URLOf(node)})
			here.raft.Removed = func(id uint64) bool { return id >= 100 }
			time.Sleep(time.Second)
			there.Send([]*raftpb.Message{testmember.Heartbeat(1, 12, 1)})
			time.Sleep(time.Second)
			require.Len(t, here.raft.Received(), 1)
			told := map[uint64]bool{}
			for range 2 {
				for from := uint64(100); from < 200; from++ {
					code, answer := postGroups(t, ma, batch(t, 1, testmember.Heartbeat(1, types.ID(from), 1)))
					require.Equal(t, http.StatusOK, code)
					told[from] = bytes.Contains(answer, numbers(7, 1, from, 1, uint64(wire.WasRemoved)))
					time.Sleep(10 * time.Millisecond)
				}
			}
			for from := uint64(100); from < 200; from++ {
				require.True(t, told[from], "replica %d", from)
			}
			here.Send([]*raftpb.Message{testmember.Message(raftpb.MsgHeartbeatResp, 12)})
			time.Sleep(time.Second)
			require.Len(t, there.raft.Received(), 1, "the answer to a replica that is not removed")
			require.Len(t, here.raft.Received(), 1)
		})
	}
}

// TestRefusalOfAReplicaThatIsAddedAgain: a replica that is in the group again is not told that it was removed, but that its message was
// refused, when that could not be told before.
func TestRefusalOfAReplicaThatIsAddedAgain(t *testing.T) {
	for _, byStream := range []bool{false, true} {
		t.Run(map[bool]string{false: "POST", true: "stream"}[byStream], func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				failing, failed := failPosts(t, n, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
				ma, mb := testmember.StartSimulated(t, n, 2, func(tr *rafthttp.Transport) {
					tr.Raft, tr.VerifyPeer = rafthttp.NoRaft{}, func(types.ID, *tls.ConnectionState) error { return nil }
				}), startNode(t, n, 1)
				n.DialBlock(testmember.HostOf(2), testmember.HostOf(1), memnet.DialRefused)
				removed := make(chan error, 1)
				a, b := join(t, ma, 7, func(c *rafthttp.GroupConfig) { c.ErrorC = removed }), join(t, mb, 7, nil)
				join(t, mb, 8, nil).AddPeer(2, []string{frontURL})
				a.AddPeer(1, []string{testmember.URLOf(1)})
				b.raft.Removed = func(uint64) bool { return true }
				time.Sleep(10 * time.Second)
				require.True(t, groupLane(t, ma, 1, "group").Up)
				failing.Store(true)
				a.Send([]*raftpb.Message{testmember.Heartbeat(1, 2, 1)})
				time.Sleep(20 * time.Second)
				require.NotZero(t, failed.Load())
				b.AddPeer(2, []string{frontURL})
				if byStream {
					n.DialBlock(testmember.HostOf(2), testmember.HostOf(1), memnet.DialAllowed)
				} else {
					failing.Store(false)
				}
				time.Sleep(time.Minute)
				require.Equal(t, byStream, groupLane(t, mb, 2, "group").Up)
				require.Empty(t, removed)
				require.EqualValues(t, 1, a.Status().Refused)
			})
		})
	}
}

// TestReplicaThatIsRemovedAgain: what was said of a replica before the group had it counts no more: the application is asked.
func TestReplicaThatIsRemovedAgain(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		m := startNode(t, n, 1)
		g := join(t, m, 1, nil)
		post := func() (answer []byte) {
			code, answer := postGroups(t, m, batch(t, 1, testmember.Heartbeat(1, 12, 1)))
			require.Equal(t, http.StatusOK, code)
			time.Sleep(time.Second)
			return answer
		}
		g.raft.Removed = func(uint64) bool { return true }
		post()
		require.NotEmpty(t, post(), "it is not told that it was removed")
		g.raft.Removed = nil
		g.AddReplica(12, 2, []string{testmember.URLOf(2)})
		g.RemovePeer(12)
		require.Empty(t, post())
		require.Len(t, g.raft.Received(), 1)
	})
}
