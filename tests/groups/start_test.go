package groups_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// TestManyGroupsThatStartWhileOthersSend: more groups than calls of Process may block have messages of replicas that are added only
// then. No worker waits for what only another worker can do.
func TestManyGroupsThatStartWhileOthersSend(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		ma, mb := startNode(t, n, 1), startNode(t, n, 2)
		connect(t, ma, mb, 1, nil)
		const groups = 300
		gate := make(chan struct{})
		var last atomic.Int64
		var as, bs []joined
		for id := uint64(2); id < 2+groups; id++ {
			a, b := join(t, ma, id, nil), join(t, mb, id, nil)
			a.raft.OnProcess = func(_ context.Context, m *raftpb.Message) error {
				<-gate
				if m.GetCommit() == 9 {
					last.Add(1)
				}
				return nil
			}
			b.AddPeer(1, []string{testmember.URLOf(1)})
			as, bs = append(as, a), append(bs, b)
		}
		time.Sleep(time.Second)
		send := func(i uint64) {
			for _, b := range bs {
				b.Send([]*raftpb.Message{testmember.Heartbeat(1, 2, i)})
			}
			time.Sleep(time.Second)
		}
		send(1)
		send(2)
		send(3)
		for _, a := range as {
			a.AddPeer(2, []string{testmember.URLOf(2)})
		}
		send(9)
		close(gate)
		time.Sleep(time.Second)
		require.EqualValues(t, groups, last.Load(), "of the replicas that were added")
	})
}

// TestNodeMovesWhileSnapshotsFail: the URLs of a node change while results of snapshots to it are held back.
func TestNodeMovesWhileSnapshotsFail(t *testing.T) {
	n := testmember.NewNetwork()
	ma := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) {
		tr.Raft, tr.SnapshotBackoff, tr.MaxMessageBytes = rafthttp.NoRaft{}, time.Hour, 1<<20
	})
	a := join(t, ma, 7, nil)
	a.AddPeer(2, []string{testmember.URLOf(2)})
	tooLarge := make([]byte, 2<<20)
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range 5000 {
			a.AddPeer(2, []string{testmember.URLOf([2]types.ID{2, 3}[i%2])})
		}
	})
	wg.Go(func() {
		for range 5000 {
			m := testmember.MsgSnap(2, 1, 1)
			m.Snapshot.Data = tooLarge
			a.Send([]*raftpb.Message{m})
		}
	})
	wg.Wait() // for ever if the two lock each other out
}

// TestGroupThatLeavesIsNoProblemOfItsNode: what it drops at its end is nothing that the other node has to do with.
func TestGroupThatLeavesIsNoProblemOfItsNode(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		slow := &testmember.Recorder{OnProcess: func(context.Context, *raftpb.Message) error { time.Sleep(time.Millisecond); return nil }}
		ma, mb := startNode(t, n, 1), startNode(t, n, 2)
		a, b := join(t, ma, 7, nil), join(t, mb, 7, func(cfg *rafthttp.GroupConfig) { cfg.Raft = slow })
		a8, b8 := join(t, ma, 8, nil), join(t, mb, 8, nil)
		for _, g := range []joined{a, a8} {
			g.AddPeer(2, []string{testmember.URLOf(2)})
		}
		for _, g := range []joined{b, b8} {
			g.AddPeer(1, []string{testmember.URLOf(1)})
		}
		time.Sleep(time.Second)
		for i := range uint64(20) {
			a.Send([]*raftpb.Message{ofKind(queue.Proposal, i, 10)})
		}
		time.Sleep(5 * time.Millisecond)
		b.Stop()
		require.Positive(t, b.Status().Dropped)
		a.Stop()
		time.Sleep(time.Second)
		require.Empty(t, mb.Health().Problems)
	})
}
