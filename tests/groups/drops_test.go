package groups_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// TestDroppedMessagesOfGroups: received messages that find no room are a problem with their node, as those of a peer are.
func TestDroppedMessagesOfGroups(t *testing.T) {
	for _, groups := range []bool{false, true} {
		t.Run(map[bool]string{false: "peer", true: "node of groups"}[groups], func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				open := make(chan struct{})
				defer close(open)
				stuck := &testmember.Recorder{OnProcess: func(context.Context, *raftpb.Message) error { <-open; return nil }}
				tune := func(tr *rafthttp.Transport) { tr.Raft, tr.ReceiveQueueMessages = stuck, 4 }
				ma, mb := startNode(t, n, 1), testmember.StartSimulated(t, n, 2, tune)
				send := ma.Transport.Send
				if groups {
					a, b := join(t, ma, 7, nil), join(t, mb, 7, func(cfg *rafthttp.GroupConfig) { cfg.Raft = stuck })
					a.AddPeer(2, []string{testmember.URLOf(2)})
					b.AddPeer(1, []string{testmember.URLOf(1)})
					send = a.Send
				} else {
					ma.AddPeer(2, []string{testmember.URLOf(2)})
					mb.AddPeer(1, []string{testmember.URLOf(1)})
				}
				time.Sleep(time.Second)
				for i := range uint64(100) {
					send([]*raftpb.Message{ofKind(queue.Proposal, i, 10)})
					time.Sleep(20 * time.Millisecond)
				}
				var kinds []string
				for _, p := range mb.Health().Problems {
					kinds = append(kinds, p.Kind)
				}
				require.Contains(t, kinds, "drops")
				peers := mb.Status().Peers
				if groups {
					peers = mb.Status().Groups.Nodes
					require.Equal(t, groupDrops(t, mb), peers[0].ReceiveFailures)
				}
				require.NotZero(t, peers[0].ReceiveFailures)
				for _, l := range peers[0].Lanes {
					if l.Name == "proposal" {
						require.Equal(t, peers[0].ReceiveFailures, l.Dropped)
						require.Equal(t, l.Dropped, l.Drops.QueueFull)
						require.False(t, l.DroppingSince.IsZero())
					}
				}
			})
		})
	}
}

// TestDropsOfAReplicaThatIsRemoved: those of its messages that wait for Process, and the one that waits for room, are dropped since it has
// ended. Its node has no part in this.
func TestDropsOfAReplicaThatIsRemoved(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		ma := startNode(t, n, 1)
		mb := testmember.StartSimulated(t, n, 2, func(tr *rafthttp.Transport) { tr.Raft, tr.ReceiveQueueMessages = rafthttp.NoRaft{}, 4 })
		connect(t, ma, mb, 1, nil)
		open := make(chan struct{})
		defer close(open)
		a, b := join(t, ma, 7, nil), join(t, mb, 7, nil)
		b.raft.OnProcess = func(context.Context, *raftpb.Message) error { <-open; return nil }
		a.AddPeer(2, []string{testmember.URLOf(2)})
		b.AddPeer(1, []string{testmember.URLOf(1)})
		time.Sleep(time.Second)
		for i := range uint64(10) {
			a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, i, nil)})
		}
		time.Sleep(2 * time.Millisecond)
		require.Zero(t, b.Status().Drops)
		b.RemovePeer(1)
		synctest.Wait()
		require.NotZero(t, b.Status().Drops.Ended)
		require.Equal(t, b.Status().Drops.Ended, b.Status().Dropped)
		require.Zero(t, groupNode(t, mb, 1).ReceiveFailures)
	})
}

// TestDropsOfAGroupThatEnds: nor has its node a part in the end of a group, whose messages and snapshots wait for Process or for room.
func TestDropsOfAGroupThatEnds(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		ma := startNode(t, n, 1)
		mb := testmember.StartSimulated(t, n, 2, func(tr *rafthttp.Transport) { tr.Raft, tr.ReceiveQueueMessages = rafthttp.NoRaft{}, 4 })
		connect(t, ma, mb, 1, nil)
		open := make(chan struct{})
		release := sync.OnceFunc(func() { close(open) })
		defer release()
		a := join(t, ma, 7, nil)
		b := join(t, mb, 7, func(c *rafthttp.GroupConfig) { c.Snapshotter = testmember.SavesAll })
		b.raft.OnProcess = func(context.Context, *raftpb.Message) error { <-open; return nil }
		a.AddPeer(2, []string{testmember.URLOf(2)})
		b.AddPeer(1, []string{testmember.URLOf(1)})
		time.Sleep(time.Second)
		for i := range uint64(8) {
			a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, i, nil)})
			time.Sleep(100 * time.Millisecond)
		}
		before := groupNode(t, mb, 1).ReceiveFailures
		require.NotZero(t, before, "there is room")
		m, _ := small("database")
		a.SendSnapshot(m)
		time.Sleep(2 * time.Minute)
		require.Len(t, a.raft.SnapshotReports(), 1)
		before++
		require.Equal(t, before, groupNode(t, mb, 1).ReceiveFailures, "it has found no room")
		m, _ = small("database")
		a.SendSnapshot(m)
		time.Sleep(time.Second)
		require.Len(t, a.raft.SnapshotReports(), 1)
		dropped := b.Status().Dropped
		time.AfterFunc(time.Second, release)
		b.Stop()
		require.Equal(t, before, groupNode(t, mb, 1).ReceiveFailures)
		require.Equal(t, dropped+2, b.Status().Dropped, "an append that waited and the snapshot")
	})
}

// groupDrops returns how many received messages group 7 has dropped.
func groupDrops(t *testing.T, m *testmember.Member) uint64 {
	t.Helper()
	st, ok := m.GroupStatus(7)
	require.True(t, ok)
	return st.Dropped
}
