package groups_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// TestProcessOfAStrangerWithoutRoom: a message for which there is no room ends no call of Process that another one waits for.
func TestProcessOfAStrangerWithoutRoom(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		m := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) { tr.Raft, tr.ReceiveQueueMessages = rafthttp.NoRaft{}, 4 })
		h := &holder{release: make(chan struct{})}
		g, err := m.Group(1, rafthttp.GroupConfig{Raft: h})
		require.NoError(t, err)
		startNode(t, n, 2)
		for i := range uint64(4) {
			postGroups(t, m, batch(t, 1, testmember.MsgApp(1, 2, i, nil)))
			synctest.Wait()
		}
		require.NotZero(t, g.Status().Dropped)
		g.AddPeer(2, []string{testmember.URLOf(2)})
		postGroups(t, m, batch(t, 1, testmember.MsgApp(1, 2, 9, nil)))
		time.Sleep(time.Second)
		most := h.most.Load()
		close(h.release)
		require.EqualValues(t, 1, most, "calls of Process at a time, with messages of one kind of one replica")
	})
}

// TestContextOfAStrangerThatIsAdded: a context that has ended says so in both ways, also if the application keeps it.
func TestContextOfAStrangerThatIsAdded(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		m := startNode(t, n, 1)
		g := join(t, m, 1, nil)
		kept := make(chan context.Context, 1)
		g.raft.OnProcess = func(ctx context.Context, _ *raftpb.Message) error { kept <- ctx; return nil }
		startNode(t, n, 2)
		postGroups(t, m, batch(t, 1, testmember.MsgApp(1, 2, 1, nil)))
		ctx := <-kept
		var done atomic.Bool
		context.AfterFunc(ctx, func() { done.Store(true) })
		synctest.Wait()
		require.NoError(t, ctx.Err())
		require.False(t, done.Load())
		g.AddPeer(2, []string{testmember.URLOf(2)})
		synctest.Wait()
		require.Error(t, ctx.Err())
		require.True(t, done.Load())
	})
}

// TestLastStrangers: a group remembers those that were heard of last: one more takes the place of the first.
func TestLastStrangers(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		lagging, leader, _, _ := withLeaderThatJoined(t, n, nil)
		leader.Send([]*raftpb.Message{testmember.Heartbeat(11, 12, 1)})
		for id := types.ID(100); id < 115; id++ {
			leader.Send([]*raftpb.Message{testmember.Heartbeat(11, id, 1)})
		}
		leader.Send([]*raftpb.Message{testmember.Heartbeat(11, 12, 2), testmember.Heartbeat(11, 115, 1)}) // in the place of 100
		time.Sleep(time.Second)
		lagging.Send([]*raftpb.Message{answerOf(testmember.Heartbeat(11, 12, 1), raftpb.MsgHeartbeatResp)})
		time.Sleep(time.Second)
		require.Len(t, leader.raft.Received(), 1)
	})
}
