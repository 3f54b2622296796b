package groups_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// joined is a group on one member, with what its Raft got.
type joined struct {
	*rafthttp.Group
	raft *testmember.Recorder
}

// join joins a group on a member.
func join(t *testing.T, m *testmember.Member, id uint64, tune func(*rafthttp.GroupConfig)) joined {
	t.Helper()
	rec := &testmember.Recorder{}
	cfg := rafthttp.GroupConfig{Raft: rec}
	if tune != nil {
		tune(&cfg)
	}
	g, err := m.Group(id, cfg)
	require.NoError(t, err)
	return joined{g, rec}
}

// pair starts two nodes with one group each, which are connected.
func pair(t *testing.T, n *memnet.Network, group uint64) (a, b joined) {
	t.Helper()
	ma, mb := startNode(t, n, 1), startNode(t, n, 2)
	a, b = join(t, ma, group, nil), join(t, mb, group, nil)
	a.AddPeer(2, []string{testmember.URLOf(2)})
	b.AddPeer(1, []string{testmember.URLOf(1)})
	time.Sleep(time.Second)
	require.Equal(t, 1, a.ActivePeers())
	require.Equal(t, 1, b.ActivePeers())
	return a, b
}

// startNode starts a member without peers, whose Raft serves groups only.
func startNode(t *testing.T, n *memnet.Network, id types.ID) *testmember.Member {
	t.Helper()
	return testmember.StartSimulated(t, n, id, func(tr *rafthttp.Transport) { tr.Raft = rafthttp.NoRaft{} })
}

// groupNode returns the status of a node.
func groupNode(t *testing.T, m *testmember.Member, id types.ID) rafthttp.PeerStatus {
	t.Helper()
	for _, n := range m.Status().Groups.Nodes {
		if n.ID == id {
			return n
		}
	}
	require.FailNow(t, "no such node")
	return rafthttp.PeerStatus{}
}

// groupLane returns the status of a lane of a node.
func groupLane(t *testing.T, m *testmember.Member, id types.ID, name string) rafthttp.LaneStatus {
	t.Helper()
	for _, l := range groupNode(t, m, id).Lanes {
		if l.Name == name {
			return l
		}
	}
	require.FailNow(t, "no such lane")
	return rafthttp.LaneStatus{}
}

func requireReceived(t *testing.T, want []*raftpb.Message, got joined) {
	t.Helper()
	time.Sleep(100 * time.Millisecond)
	synctest.Wait()
	received := got.raft.Received()
	require.Len(t, received, len(want))
	for i := range want {
		require.True(t, proto.Equal(want[i], received[i]), "%d: %v, not %v", i, received[i], want[i])
	}
}

// TestGroupMessages: messages of every kind reach the group that they are of, as they were sent.
func TestGroupMessages(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a, b := pair(t, n, 7)
		var want []*raftpb.Message
		for _, m := range testmember.OfEachKind() {
			want = append(want, m)
			b.Send([]*raftpb.Message{proto.CloneOf(m)})
			requireReceived(t, want, a)
		}
		require.Zero(t, b.raft.Unreachables(1))
		require.Empty(t, b.raft.Received())
		require.Zero(t, a.Status().Drops)
	})
}

// TestGroupsAreSeparate: a message reaches its group only, and one of a group that is not here reaches none.
func TestGroupsAreSeparate(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		ma, mb := startNode(t, n, 1), startNode(t, n, 2)
		var as, bs []joined
		for id := uint64(1); id <= 5; id++ {
			as, bs = append(as, join(t, ma, id, nil)), append(bs, join(t, mb, id, nil))
			as[id-1].AddPeer(2, []string{testmember.URLOf(2)})
			bs[id-1].AddPeer(1, []string{testmember.URLOf(1)})
		}
		time.Sleep(time.Second)
		bs[4].Stop()
		for i, g := range as {
			g.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, uint64(i)), testmember.MsgApp(2, 1, uint64(i), nil)})
		}
		for i := range bs[:4] {
			time.Sleep(100 * time.Millisecond)
			got := bs[i].raft.Received()
			require.Len(t, got, 2)
			for _, m := range got {
				if m.GetType() == raftpb.MsgHeartbeat {
					require.EqualValues(t, i, m.GetCommit())
				} else {
					require.EqualValues(t, i, m.GetIndex())
				}
			}
		}
		require.Empty(t, bs[4].raft.Received())
	})
}

// TestGroupMessagesByPost: while the other node cannot dial, messages go by POST.
func TestGroupMessagesByPost(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		n.DialBlock(testmember.HostOf(1), testmember.HostOf(2), memnet.DialRefused)
		ma, mb := startNode(t, n, 1), startNode(t, n, 2)
		a, b := join(t, ma, 3, nil), join(t, mb, 3, nil)
		a.AddPeer(2, []string{testmember.URLOf(2)})
		b.AddPeer(1, []string{testmember.URLOf(1)})
		time.Sleep(time.Second)
		var want []*raftpb.Message
		for _, m := range testmember.OfEachKind() {
			want = append(want, m)
			b.Send([]*raftpb.Message{proto.CloneOf(m)})
			requireReceived(t, want, a)
		}
		require.Zero(t, b.raft.Unreachables(1))
		require.Zero(t, a.Status().Drops)
	})
}

// TestGroupsWithMessagesInFlightAreToldOfALostNode: they are told once, and idle groups are not.
func TestGroupsWithMessagesInFlightAreToldOfALostNode(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		ma, mb := startNode(t, n, 1), startNode(t, n, 2)
		busy, idle, other := join(t, ma, 1, nil), join(t, ma, 2, nil), join(t, mb, 1, nil)
		busy.AddPeer(2, []string{testmember.URLOf(2)})
		idle.AddPeer(2, []string{testmember.URLOf(2)})
		other.AddPeer(1, []string{testmember.URLOf(1)})
		time.Sleep(time.Minute)
		busy.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1)})
		time.Sleep(time.Second)
		require.Zero(t, busy.raft.Unreachables(2))
		mb.Stop()
		time.Sleep(time.Second)
		require.NotZero(t, busy.raft.Unreachables(2))
		require.Zero(t, idle.raft.Unreachables(2))
		require.Zero(t, busy.ActivePeers())
		before := busy.raft.Unreachables(2)
		busy.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 2)}) // cannot be sent
		time.Sleep(10 * time.Second)
		require.Greater(t, busy.raft.Unreachables(2), before)
		require.Zero(t, idle.raft.Unreachables(2))
	})
}

// TestMessageForAFormerReplica: a message for another replica than the one that is here is not processed.
func TestMessageForAFormerReplica(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		ma, mb := startNode(t, n, 1), startNode(t, n, 2)
		a := join(t, ma, 9, func(c *rafthttp.GroupConfig) { c.Replica = 101 })
		b := join(t, mb, 9, func(c *rafthttp.GroupConfig) { c.Replica = 202 })
		a.AddReplica(202, 2, []string{testmember.URLOf(2)})
		b.AddReplica(100, 1, []string{testmember.URLOf(1)}) // the one before
		time.Sleep(time.Second)
		b.Send([]*raftpb.Message{testmember.Heartbeat(100, 202, 1)})
		time.Sleep(time.Second)
		require.Empty(t, a.raft.Received())
		b.AddReplica(101, 1, []string{testmember.URLOf(1)})
		b.Send([]*raftpb.Message{testmember.Heartbeat(101, 202, 1)})
		requireReceived(t, []*raftpb.Message{testmember.Heartbeat(101, 202, 1)}, a)
	})
}

// TestLastGroupTakesTheConnectionsAlong: a node without replicas of any group costs no connection and no goroutine.
func TestLastGroupTakesTheConnectionsAlong(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		ma, mb := startNode(t, n, 1), startNode(t, n, 2)
		for _, m := range []*testmember.Member{ma, mb} {
			for id := range uint64(2) {
				g := join(t, m, id+1, nil)
				g.AddPeer(3-m.ID, []string{testmember.URLOf(3 - m.ID)})
			}
		}
		time.Sleep(time.Second)
		again := join(t, ma, 3, nil)
		again.AddPeer(2, []string{testmember.URLOf(2)})
		require.Equal(t, 1, again.ActivePeers())
		again.Stop()
		again.Stop()
		again.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1)})
		again.AddPeer(2, []string{testmember.URLOf(2)})
		require.Zero(t, again.ActivePeers())
	})
}

// TestNodeWithoutGroups: a node that does not have the extension is not asked for streams of groups, and the group is
// told that it is unreachable.
func TestNodeWithoutGroups(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		ma := startNode(t, n, 1)
		testmember.StartSimulated(t, n, 2, nil)
		a := join(t, ma, 1, nil)
		a.AddPeer(2, []string{testmember.URLOf(2)})
		time.Sleep(time.Second)
		a.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1)})
		time.Sleep(time.Second)
		require.Equal(t, 1, a.raft.Unreachables(2))
		require.Zero(t, a.ActivePeers())
		node := ma.Status().Groups.Nodes[0]
		require.Contains(t, node.LastError, rafthttp.ErrNoGroups.Error())
		require.NotZero(t, node.SendFailures)
	})
}

// TestGroupConfigErrors: they name the field.
func TestGroupConfigErrors(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		m := startNode(t, n, 1)
		for field, try := range map[string]func() (*rafthttp.Group, error){
			"Group":            func() (*rafthttp.Group, error) { return m.Group(0, rafthttp.GroupConfig{Raft: &testmember.Recorder{}}) },
			"GroupConfig.Raft": func() (*rafthttp.Group, error) { return m.Group(1, rafthttp.GroupConfig{}) },
			"GroupConfig.Replica": func() (*rafthttp.Group, error) {
				return m.Group(1, rafthttp.GroupConfig{Raft: &testmember.Recorder{}, Replica: raft.LocalApplyThread})
			},
		} {
			_, err := try()
			var bad *rafthttp.ConfigError
			require.ErrorAs(t, err, &bad)
			require.Equal(t, field, bad.Field)
		}
		join(t, m, 1, nil)
		_, err := m.Group(1, rafthttp.GroupConfig{Raft: &testmember.Recorder{}})
		var bad *rafthttp.ConfigError
		require.ErrorAs(t, err, &bad)
	})
}
