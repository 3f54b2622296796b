package groups_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// TestGroupWhoseMessagesWaitedIsTold: a message that waited in the queue, and was written just before the stream was lost, is reported.
func TestGroupWhoseMessagesWaitedIsTold(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		n := memnet.New(memnet.WithBuffer(1 << 20))
		ma, mb := startNode(t, n, 1), startNode(t, n, 2)
		a, b := join(t, ma, 1, nil), join(t, mb, 1, nil)
		a.AddPeer(2, []string{testmember.URLOf(2)})
		b.AddPeer(1, []string{testmember.URLOf(1)})
		time.Sleep(time.Second)
		n.Link(testmember.HostOf(1), testmember.HostOf(2)).SetBandwidth(1 << 20)
		for i := range uint64(20) {
			a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, i, make([]byte, 1<<20))})
		}
		for {
			st := ma.Status().Groups.Nodes[0]
			queued := 0
			for _, l := range st.Lanes {
				if l.Name == "groupapp" {
					queued = l.Queued
				}
			}
			if queued == 0 {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		got := len(b.raft.Received())
		require.Less(t, got, 20)
		require.Zero(t, a.raft.Unreachables(2))
		mb.Stop()
		time.Sleep(10 * time.Second)

		if a.raft.Unreachables(2) == 0 {
			t.Errorf("%d of 20 were lost, and none was reported", 20-len(b.raft.Received()))
		}
	})
}
