package groups_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// scheduler is a GroupReceiver that keeps what it gets.
type scheduler struct {
	mu          sync.Mutex
	messages    map[uint64][]*raftpb.Message
	unreachable map[uint64]int
	largest     int  // groups in one report
	twice       bool // one had a group twice
}

func (s *scheduler) ReceiveGroups(_ types.ID, msgs []rafthttp.GroupMessage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range msgs {
		s.messages[m.Group] = append(s.messages[m.Group], m.Message)
	}
}

// of returns the messages of a group.
func (s *scheduler) of(group uint64) []*raftpb.Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.messages[group])
}

func (s *scheduler) GroupsUnreachable(_ types.ID, groups []uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range groups {
		s.unreachable[id]++
	}
	s.largest = max(s.largest, len(groups))
	s.twice = s.twice || len(slices.Compact(slices.Sorted(slices.Values(groups)))) < len(groups)
}

// TestGroupReceiver: it gets the messages of all groups in order, also of groups that are not here, and each group with
// messages in flight once when the node is lost.
func TestGroupReceiver(t *testing.T) {
	const groups = 3000
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		s := &scheduler{messages: map[uint64][]*raftpb.Message{}, unreachable: map[uint64]int{}}
		ma := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) { tr.Raft, tr.GroupReceiver = rafthttp.NoRaft{}, s })
		mb := startNode(t, n, 2)
		var as, bs []joined
		for id := range uint64(groups) {
			as, bs = append(as, join(t, ma, id+1, nil)), append(bs, join(t, mb, id+1, nil))
			as[id].AddPeer(2, []string{testmember.URLOf(2)})
			bs[id].AddPeer(1, []string{testmember.URLOf(1)})
		}
		elsewhere := join(t, mb, groups+1, nil)
		elsewhere.AddPeer(1, []string{testmember.URLOf(1)})
		time.Sleep(time.Second)
		for i := range uint64(10) {
			for _, g := range append(bs, elsewhere) {
				g.Send([]*raftpb.Message{testmember.Heartbeat(1, 2, i)})
			}
		}
		bs[0].Send([]*raftpb.Message{testmember.Heartbeat(7, 2, 1)}) // unknown: not sent
		time.Sleep(time.Second)
		s.mu.Lock()
		defer s.mu.Unlock()
		require.Len(t, s.messages, groups+1)
		for id, got := range s.messages {
			require.Len(t, got, 10, id)
			for i, m := range got {
				require.EqualValues(t, i, m.GetCommit())
			}
		}
		require.Empty(t, as[0].raft.Received())
		s.mu.Unlock()
		for _, g := range as[:groups-1] {
			g.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1)})
		}
		time.Sleep(time.Second)
		s.mu.Lock()
		require.Empty(t, s.unreachable)
		s.mu.Unlock()
		mb.Stop()
		time.Sleep(time.Second)
		s.mu.Lock()
		require.Len(t, s.unreachable, groups-1)
		require.Equal(t, 1024, s.largest)
		require.NotContains(t, s.unreachable, uint64(groups))
	})
}

// TestLostNodeOfTwoReplicas: a group that has two replicas on a node, one of which takes the place of the other, is told once of each loss.
func TestLostNodeOfTwoReplicas(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		s := &scheduler{messages: map[uint64][]*raftpb.Message{}, unreachable: map[uint64]int{}}
		ma := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) { tr.Raft, tr.GroupReceiver = rafthttp.NoRaft{}, s })
		mb := startNode(t, n, 2)
		a, b := join(t, ma, 7, nil), join(t, mb, 7, func(cfg *rafthttp.GroupConfig) { cfg.Replica = 22 })
		for _, replica := range []uint64{12, 22} {
			a.AddReplica(replica, 2, []string{testmember.URLOf(2)})
		}
		b.AddPeer(1, []string{testmember.URLOf(1)})
		time.Sleep(time.Second)
		n.Host(testmember.HostOf(2)).Crash()
		a.Send([]*raftpb.Message{testmember.MsgApp(12, 1, 1, nil), testmember.MsgApp(22, 1, 1, nil)})
		time.Sleep(20 * time.Second)
		s.mu.Lock()
		defer s.mu.Unlock()
		require.NotEmpty(t, s.unreachable)
		require.False(t, s.twice)
	})
}
