package groups_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
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
