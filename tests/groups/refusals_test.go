package groups_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// TestRemovedReplicaIsTold: a replica that was removed learns of it, whether its node still shares a group with the other or
// not, by ErrorC of its group and not of the Transport.
func TestRemovedReplicaIsTold(t *testing.T) {
	for _, share := range []bool{true, false} {
		testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
			wrong := make(chan error, 1)
			ma := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) { tr.Raft, tr.ErrorC = rafthttp.NoRaft{}, wrong })
			mb := startNode(t, n, 2)
			if share {
				join(t, ma, 1, nil).AddPeer(2, []string{testmember.URLOf(2)})
				join(t, mb, 1, nil).AddPeer(1, []string{testmember.URLOf(1)})
			}
			removed := make(chan error, 1)
			a := join(t, ma, 2, func(c *rafthttp.GroupConfig) { c.ErrorC = removed })
			b := join(t, mb, 2, nil)
			a.AddPeer(2, []string{testmember.URLOf(2)})
			b.AddPeer(1, []string{testmember.URLOf(1)})
			time.Sleep(time.Second)
			a.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1)})
			time.Sleep(time.Second)
			require.Len(t, b.raft.Received(), 1)
			b.raft.Removed = func(id uint64) bool { return id == 1 }
			b.RemovePeer(1)
			time.Sleep(time.Second)
			require.Empty(t, removed)
			a.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 2)})
			time.Sleep(time.Second)
			if !share { // by POST, whose answer does not wait for the application
				require.Empty(t, removed)
				a.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 3)})
				time.Sleep(time.Second)
			}
			require.ErrorIs(t, <-removed, rafthttp.ErrMemberRemoved)
			require.Empty(t, wrong)
			require.Len(t, b.raft.Received(), 1)
		})
	}
}

// TestUnknownGroupIsRefused: a group that is not at the other node, or has another replica there, is unreachable.
func TestUnknownGroupIsRefused(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		ma, mb := startNode(t, n, 1), startNode(t, n, 2)
		good, unknown := join(t, ma, 1, nil), join(t, ma, 2, nil)
		other := join(t, mb, 1, nil)
		good.AddPeer(2, []string{testmember.URLOf(2)})
		unknown.AddPeer(2, []string{testmember.URLOf(2)})
		good.AddReplica(9, 2, []string{testmember.URLOf(2)})
		other.AddPeer(1, []string{testmember.URLOf(1)})
		time.Sleep(time.Second)
		for range 10 {
			unknown.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1)})
			good.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1), testmember.Heartbeat(9, 1, 1)})
		}
		time.Sleep(time.Second)
		require.NotZero(t, unknown.raft.Unreachables(2))
		require.LessOrEqual(t, unknown.raft.Unreachables(2), 2)
		require.Zero(t, good.raft.Unreachables(2))
		require.NotZero(t, good.raft.Unreachables(9))
		require.EqualValues(t, 10, mb.Status().Groups.Unknown)
		require.Len(t, other.raft.Received(), 10)
	})
}

// TestEveryRefusedMessageIsReported: a replica is reported unreachable after the last message to it was refused, also if another one
// was a moment before.
func TestEveryRefusedMessageIsReported(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a, b := pair(t, n, 1)
		a.AddReplica(9, 2, []string{testmember.URLOf(2)})
		for range 5 {
			for range 3 {
				a.Send([]*raftpb.Message{testmember.Heartbeat(9, 1, 1)})
				time.Sleep(100 * time.Millisecond)
			}
			before := a.raft.Unreachables(9)
			a.Send([]*raftpb.Message{testmember.Heartbeat(9, 1, 1)})
			time.Sleep(5*time.Second + 70*time.Millisecond)
			require.Greater(t, a.raft.Unreachables(9), before)
			require.LessOrEqual(t, a.raft.Unreachables(9), before+2)
		}
		require.Empty(t, b.raft.Received())
	})
}

// oneWay starts two nodes that have streams from the first to the second only, which knows the first by another group: the first cannot dial
// it, or its handler cannot serve streams if hidden is set. bodies has the bodies of the POSTs that come to the first.
func oneWay(t *testing.T, n *memnet.Network, hidden bool, removed chan error, tune func(*rafthttp.Transport)) (a, b joined, mb *testmember.Member, bodies chan []byte) {
	t.Helper()
	ma := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) {
		tr.Raft = rafthttp.NoRaft{}
		if tune != nil {
			tune(tr)
		}
	})
	mb = startNode(t, n, 2)
	bodies = make(chan []byte, 100)
	inner := ma.Server.Handler
	ma.Server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			body, err := io.ReadAll(r.Body)
			if err == nil {
				bodies <- body
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
		}
		inner.ServeHTTP(w, r)
	})
	if hidden {
		testmember.WrapWriters(mb, func(w http.ResponseWriter) http.ResponseWriter { return testmember.BasicWriter{W: w} })
	} else {
		n.DialBlock(testmember.HostOf(1), testmember.HostOf(2), memnet.DialRefused)
	}
	a = join(t, ma, 1, func(c *rafthttp.GroupConfig) { c.ErrorC = removed })
	a.AddPeer(2, []string{testmember.URLOf(2)})
	b = join(t, mb, 2, nil)
	b.AddPeer(1, []string{testmember.URLOf(1)})
	time.Sleep(10 * time.Second)
	require.True(t, groupLane(t, ma, 2, "group").Up)
	require.False(t, groupLane(t, mb, 1, "group").Up)
	return a, b, mb, bodies
}

// TestRefusalsWithoutAStream: a node that has no stream to the sender of a message that it refuses says so by POST, once in an interval.
func TestRefusalsWithoutAStream(t *testing.T) {
	for _, hidden := range []bool{true, false} {
		testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
			a, b, _, bodies := oneWay(t, n, hidden, nil, nil)
			require.Zero(t, a.raft.Unreachables(2))
			for range 10 {
				a.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1)})
			}
			time.Sleep(10 * time.Second)
			told := a.raft.Unreachables(2)
			require.NotZero(t, told, "nobody says that there is no such group")
			require.LessOrEqual(t, told, 2, "and again after the last of several")
			require.EqualValues(t, told, a.Status().Refused)
			require.Len(t, bodies, told)
			require.Equal(t, numbers(7, 1, 1, 2, 1), <-bodies)
			time.Sleep(time.Minute)
			require.LessOrEqual(t, len(bodies), 1, "refusals are not refused")
			require.Empty(t, b.raft.Received())
		})
	}
}

// TestRefusalsBesideASlowPOST: what is refused while a POST with refusals is under way is not lost.
func TestRefusalsBesideASlowPOST(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a, _, _, bodies := oneWay(t, n, false, nil, nil)
		a.AddReplica(3, 2, []string{testmember.URLOf(2)})
		a.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1)})
		n.Link(testmember.HostOf(2), testmember.HostOf(1)).SetDelay(4 * time.Second)
		time.Sleep(3 * time.Second) // the POST has left
		require.Empty(t, bodies)
		a.Send([]*raftpb.Message{testmember.Heartbeat(3, 1, 1)})
		time.Sleep(20 * time.Second)
		require.NotZero(t, a.raft.Unreachables(2))
		require.NotZero(t, a.raft.Unreachables(3))
	})
}

// TestRemovedReplicaIsToldWithoutAStream: one that says that the replica was removed ends it only if the sender is known for certain.
func TestRemovedReplicaIsToldWithoutAStream(t *testing.T) {
	verify := func(types.ID, *tls.ConnectionState) error { return nil }
	for _, known := range []bool{true, false} {
		testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
			removed := make(chan error, 1)
			a, _, mb, _ := oneWay(t, n, false, removed, func(tr *rafthttp.Transport) {
				if known {
					tr.VerifyPeer = verify
				}
			})
			b := join(t, mb, 1, nil)
			b.raft.Removed = func(id uint64) bool { return id == 1 }
			a.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1)})
			time.Sleep(10 * time.Second)
			require.Empty(t, b.raft.Received())
			if !known {
				require.Empty(t, removed, "anybody may post that")
				require.NotZero(t, a.raft.Unreachables(2))
				return
			}
			require.Len(t, removed, 1)
			require.ErrorIs(t, <-removed, rafthttp.ErrMemberRemoved)
		})
	}
}
