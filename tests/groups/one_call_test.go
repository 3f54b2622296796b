package groups_test

import (
	"context"
	"sync/atomic"
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

// TestProcessOfAReplicaThatIsRemovedTwice: also if it is removed again while its messages wait for the call of the former one.
func TestProcessOfAReplicaThatIsRemovedTwice(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a, b, h, _ := holding(t, n)
		b.RemovePeer(1)
		b.AddPeer(1, []string{testmember.URLOf(1)})
		time.Sleep(10 * time.Second)
		a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, 2, nil)})
		time.Sleep(time.Second)
		require.EqualValues(t, 1, h.most.Load())
		b.RemovePeer(1)
		time.Sleep(time.Second)
		most := h.most.Load()
		close(h.release)
		if most != 1 {
			t.Errorf("%d calls of Process at a time, with messages of one kind of one replica, the last after RemovePeer", most)
		}
	})
}

// TestReplicaThatIsRemovedWhileItWaits: what a replica waits for does not change. It needs the race detector.
func TestReplicaThatIsRemovedWhileItWaits(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		ma, mb := startNode(t, n, 1), startNode(t, n, 2)
		a := join(t, ma, 7, nil)
		var first [queue.Kinds]chan struct{}
		var calls [queue.Kinds]atomic.Int32
		for k := range first {
			first[k] = make(chan struct{})
		}
		last := make(chan struct{})
		b := join(t, mb, 7, nil)
		b.raft.OnProcess = func(_ context.Context, m *raftpb.Message) error {
			k := queue.KindOf(m.GetType())
			if calls[k].Add(1) == 1 {
				<-first[k]
			} else {
				<-last
			}
			return nil
		}
		a.AddPeer(2, []string{testmember.URLOf(2)})
		again := func() { b.RemovePeer(1); b.AddPeer(1, []string{testmember.URLOf(1)}); time.Sleep(10 * time.Second) }
		again()
		send := func(k queue.Kind) { a.Send([]*raftpb.Message{ofKind(k, 1, 1)}); time.Sleep(time.Second) }
		send(queue.Control)
		send(queue.Append)
		send(queue.Proposal)
		again() // it waits for three calls
		again() // the same, in a slice with room
		close(first[queue.Control])
		time.Sleep(time.Second)
		send(queue.Proposal) // waits for the append
		b.RemovePeer(1)
		time.Sleep(time.Second)
		close(first[queue.Append])
		close(first[queue.Proposal])
		close(last)
	})
}

// TestProcessOfAStrangerWhileAnotherIsAdded: Process gets messages of one kind of one replica one after another, and none is lost,
// while another one is added.
func TestProcessOfAStrangerWhileAnotherIsAdded(t *testing.T) {
	for name, add := range map[string]bool{"stays a stranger": false, "is added too": true} {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				m := startNode(t, n, 1)
				h := &holder{release: make(chan struct{})}
				g, err := m.Group(1, rafthttp.GroupConfig{Raft: h})
				require.NoError(t, err)
				startNode(t, n, 2)
				postGroups(t, m, batch(t, 1, testmember.MsgApp(1, 2, 1, nil), testmember.MsgApp(1, 2, 2, nil)))
				synctest.Wait()
				g.AddPeer(3, []string{testmember.URLOf(3)}) // another one
				if add {
					g.AddPeer(2, []string{testmember.URLOf(2)})
				}
				postGroups(t, m, batch(t, 1, testmember.MsgApp(1, 2, 3, nil)))
				time.Sleep(time.Second)
				most := h.most.Load()
				close(h.release)
				time.Sleep(time.Second)
				require.EqualValues(t, 1, most)
				require.Zero(t, g.Status().Dropped)
				var got []uint64
				for _, m := range h.Received() {
					got = append(got, m.GetIndex())
				}
				require.Equal(t, []uint64{1, 2, 3}, got)
			})
		})
	}
}
