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

// TestReplicaMovesWhileAppendsAreWithheld: raft is told of appends that had no room, and of which the queue of the former node would say when it
// has drained.
func TestReplicaMovesWhileAppendsAreWithheld(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		ma := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) { tr.Raft, tr.SendQueueMessages = rafthttp.NoRaft{}, 2 })
		mb := startNode(t, n, 2)
		startNode(t, n, 3)
		a, b := join(t, ma, 1, nil), join(t, mb, 1, func(cfg *rafthttp.GroupConfig) { cfg.Replica = 12 })
		a.AddReplica(12, 2, []string{testmember.URLOf(2)})
		b.AddPeer(1, []string{testmember.URLOf(1)})
		other := join(t, ma, 2, nil) // which keeps the connections with the former node
		other.AddPeer(2, []string{testmember.URLOf(2)})
		time.Sleep(time.Second)
		n.Link(testmember.HostOf(1), testmember.HostOf(2)).SetBandwidth(64 << 10)
		a.Send([]*raftpb.Message{testmember.MsgApp(12, 1, 1, make([]byte, 1<<20))})
		time.Sleep(100 * time.Millisecond) // it is being written
		a.Send([]*raftpb.Message{testmember.MsgApp(12, 1, 2, []byte("no room"))})
		time.Sleep(100 * time.Millisecond)
		require.EqualValues(t, 1, groupLane(t, ma, 2, "groupapp").Drops.QueueFull)
		require.Zero(t, a.raft.Unreachables(12), "it is told later")
		a.AddReplica(12, 3, []string{testmember.URLOf(3)})
		time.Sleep(time.Minute)
		require.NotZero(t, a.raft.Unreachables(12))
	})
}
