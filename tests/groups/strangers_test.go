package groups_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// answerOf is raft's answer to a message: it goes to the sender.
func answerOf(m *raftpb.Message, typ raftpb.MessageType) *raftpb.Message {
	return &raftpb.Message{Type: typ.Enum(), From: new(m.GetTo()), To: new(m.GetFrom()), Term: new(uint64(1)), Index: new(m.GetIndex())}
}

// withLeaderThatJoined starts two nodes that share group 1. Group 7 has replica 11 on the first node, which was away when replica 12 on
// the second one joined the group, and answers each message by one of these types.
func withLeaderThatJoined(t *testing.T, n *memnet.Network, tune func(*rafthttp.Transport), types ...raftpb.MessageType) (lagging, leader joined, ma, mb *testmember.Member) {
	t.Helper()
	noRaft := func(tr *rafthttp.Transport) { tr.Raft = rafthttp.NoRaft{} }
	ma, mb = testmember.StartSimulated(t, n, 1, testmember.Tuned(noRaft, tune)), startNode(t, n, 2)
	connect(t, ma, mb, 1, nil)
	lagging = join(t, ma, 7, func(c *rafthttp.GroupConfig) { c.Replica, c.Snapshotter = 11, testmember.SavesAll })
	leader = join(t, mb, 7, func(c *rafthttp.GroupConfig) { c.Replica = 12 })
	leader.AddReplica(11, 1, []string{testmember.URLOf(1)})
	lagging.raft.OnProcess = func(_ context.Context, m *raftpb.Message) error {
		lagging.raft.Keep(m)
		for _, typ := range types {
			lagging.Send([]*raftpb.Message{answerOf(m, typ)})
		}
		return nil
	}
	time.Sleep(time.Second)
	return lagging, leader, ma, mb
}

// answers are the types of messages that raft sends to the sender of another.
var answers = []raftpb.MessageType{raftpb.MsgAppResp, raftpb.MsgVoteResp, raftpb.MsgPreVoteResp, raftpb.MsgHeartbeatResp}

// TestAnswersToAReplicaThatJoinedMeanwhile: a replica that was away answers a leader that it does not know yet, and nothing else is sent
// there: by the stream, by POST, and after a snapshot. It gets the configuration with the leader only so.
func TestAnswersToAReplicaThatJoinedMeanwhile(t *testing.T) {
	for name, send := range map[string]func(leader joined, n *memnet.Network){
		"stream": func(leader joined, _ *memnet.Network) {
			leader.Send([]*raftpb.Message{testmember.MsgApp(11, 12, 5, nil)})
		},
		"post": func(leader joined, n *memnet.Network) { // in both directions
			for _, id := range []types.ID{1, 2} {
				n.DialBlock(testmember.HostOf(id), testmember.HostOf(3-id), memnet.DialRefused)
			}
			n.Reset(testmember.HostOf(1), testmember.HostOf(2))
			time.Sleep(time.Second)
			for _, id := range []types.ID{1, 2} {
				n.DialBlock(testmember.HostOf(id), testmember.HostOf(3-id), memnet.DialAllowed)
			}
			leader.Send([]*raftpb.Message{testmember.MsgApp(11, 12, 5, nil)})
		},
		"snapshot": func(leader joined, _ *memnet.Network) {
			m, _ := small("database")
			m.To, m.From = new(uint64(11)), new(uint64(12))
			leader.SendSnapshot(m)
		},
	} {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				lagging, leader, ma, mb := withLeaderThatJoined(t, n, nil, append(answers, raftpb.MsgHeartbeat, raftpb.MsgApp, raftpb.MsgProp, raftpb.MsgVote)...)
				send(leader, n)
				time.Sleep(5 * time.Second)
				require.Len(t, lagging.raft.Received(), 1)
				var got []raftpb.MessageType
				for _, m := range leader.raft.Received() {
					require.EqualValues(t, 11, m.GetFrom())
					got = append(got, m.GetType())
				}
				require.ElementsMatch(t, answers, got)
				require.Zero(t, lagging.raft.Unreachables(12))
				require.Empty(t, lagging.Status().Replicas)
				if name == "post" {
					require.EqualValues(t, 1, groupLane(t, mb, 1, "grouppost").Messages)
					require.EqualValues(t, len(answers), groupLane(t, ma, 2, "grouppost").Messages)
				}
			})
		})
	}
}

// TestAnswersGoWhereTheStrangerSendsFrom: to the node whose stream brought its last message, and to no other. Once the
// replica is added, they go to its node.
func TestAnswersGoWhereTheStrangerSendsFrom(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		verify := func(tr *rafthttp.Transport) {
			tr.VerifyPeer = func(types.ID, *tls.ConnectionState) error { return nil }
		}
		lagging, leader, ma, _ := withLeaderThatJoined(t, n, verify, raftpb.MsgHeartbeatResp)
		mc := startNode(t, n, 3)
		connect3 := join(t, ma, 3, nil)
		connect3.AddPeer(3, []string{testmember.URLOf(3)})
		join(t, mc, 3, nil).AddPeer(1, []string{testmember.URLOf(1)})
		other := join(t, mc, 7, func(c *rafthttp.GroupConfig) { c.Replica = 13 })
		other.AddReplica(11, 1, []string{testmember.URLOf(1)})
		time.Sleep(time.Second)
		leader.Send([]*raftpb.Message{testmember.Heartbeat(11, 12, 1)})
		other.Send([]*raftpb.Message{testmember.Heartbeat(11, 13, 1)})
		time.Sleep(time.Second)
		require.Len(t, leader.raft.Received(), 1)
		require.Len(t, other.raft.Received(), 1)
		lagging.Send([]*raftpb.Message{answerOf(testmember.Heartbeat(11, 14, 1), raftpb.MsgHeartbeatResp)}) // which sent nothing
		lagging.AddReplica(12, 2, []string{testmember.URLOf(2)})
		other.Send([]*raftpb.Message{testmember.Heartbeat(11, 12, 1)}) // as if it were 12: refused
		leader.Send([]*raftpb.Message{testmember.Heartbeat(11, 12, 2)})
		time.Sleep(time.Second)
		require.Len(t, leader.raft.Received(), 2)
		require.Len(t, other.raft.Received(), 1)
	})
}

// TestAnswersToManyStrangers: a group remembers some of them, and a flood of ids costs little memory. One that sends again is answered again.
func TestAnswersToManyStrangers(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		lagging, leader, _, _ := withLeaderThatJoined(t, n, nil, raftpb.MsgHeartbeatResp)
		lagging.raft.OnProcess = func(_ context.Context, m *raftpb.Message) error {
			lagging.Send([]*raftpb.Message{answerOf(m, raftpb.MsgHeartbeatResp)})
			return nil
		}
		before := testmember.HeapBytes()
		for id := uint64(100); id < 10100; id++ {
			leader.Send([]*raftpb.Message{testmember.Heartbeat(11, types.ID(id), 1)})
			if id%100 == 0 {
				time.Sleep(10 * time.Millisecond)
			}
		}
		time.Sleep(10 * time.Second)
		require.Less(t, testmember.HeapBytes()-before, int64(1<<20))
		require.Empty(t, leader.raft.Received(), "they are for other replicas")
		leader.Send([]*raftpb.Message{testmember.Heartbeat(11, 12, 1)})
		time.Sleep(time.Second)
		require.Len(t, leader.raft.Received(), 1)
	})
}

// TestNoAnswersAfterTheEnd: a stranger whose node or group has ended gets nothing, whatever waits for it.
func TestNoAnswersAfterTheEnd(t *testing.T) {
	for name, end := range map[string]func(lagging, shared joined){
		"group stopped": func(lagging, _ joined) { lagging.Stop() },
		"node left":     func(_, shared joined) { shared.RemovePeer(2) },
	} {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				ma, mb := startNode(t, n, 1), startNode(t, n, 2)
				shared, _ := connect(t, ma, mb, 1, nil)
				lagging := join(t, ma, 7, func(c *rafthttp.GroupConfig) { c.Replica = 11 })
				leader := join(t, mb, 7, func(c *rafthttp.GroupConfig) { c.Replica = 12 })
				leader.AddReplica(11, 1, []string{testmember.URLOf(1)})
				time.Sleep(time.Second)
				leader.Send([]*raftpb.Message{testmember.Heartbeat(11, 12, 1)})
				time.Sleep(time.Second)
				require.Len(t, lagging.raft.Received(), 1)
				end(lagging, shared)
				lagging.Send([]*raftpb.Message{answerOf(testmember.Heartbeat(11, 12, 1), raftpb.MsgHeartbeatResp)})
				time.Sleep(10 * time.Second)
				require.Empty(t, leader.raft.Received())
			})
		})
	}
}

// TestAnswersWithAGroupReceiver: the same for a server with a scheduler of its own.
func TestAnswersWithAGroupReceiver(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		s := &scheduler{messages: map[uint64][]*raftpb.Message{}, unreachable: map[uint64]int{}}
		lagging, leader, _, _ := withLeaderThatJoined(t, n, func(tr *rafthttp.Transport) { tr.GroupReceiver = s })
		m := testmember.Heartbeat(11, 12, 1)
		lagging.Send([]*raftpb.Message{answerOf(m, raftpb.MsgHeartbeatResp)})
		leader.Send([]*raftpb.Message{m})
		time.Sleep(time.Second)
		require.Empty(t, leader.raft.Received())
		lagging.Send([]*raftpb.Message{answerOf(m, raftpb.MsgHeartbeatResp)})
		time.Sleep(time.Second)
		require.Len(t, leader.raft.Received(), 1)
	})
}

// TestSnapshotOfAReplicaThatIsAddedWhileItWaits: what a replica has sent before it was added is processed, in order, a snapshot included.
// So is the message of another one.
func TestSnapshotOfAReplicaThatIsAddedWhileItWaits(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		lagging, leader, _, _ := withLeaderThatJoined(t, n, nil)
		may := make(chan struct{})
		lagging.raft.OnProcess = func(_ context.Context, m *raftpb.Message) error {
			<-may
			lagging.raft.Keep(m)
			return nil
		}
		leader.Send([]*raftpb.Message{testmember.MsgApp(11, 12, 1, nil), testmember.MsgApp(11, 13, 2, nil), testmember.MsgApp(11, 12, 3, nil)})
		time.Sleep(time.Second) // or a snapshot may come before them
		m, db := small("database")
		m.To, m.From = new(uint64(11)), new(uint64(12))
		leader.SendSnapshot(m)
		time.Sleep(time.Second)
		lagging.AddReplica(12, 2, []string{testmember.URLOf(2)})
		leader.Send([]*raftpb.Message{testmember.MsgApp(11, 12, 4, nil)})
		time.Sleep(time.Second)
		require.Empty(t, leader.raft.SnapshotReports())
		close(may)
		testmember.RequireEnd(t, m, db, true, leader.raft, raft.SnapshotFinish)
		time.Sleep(time.Second)
		var got []string
		for _, m := range lagging.raft.Received() {
			if m.GetFrom() == 12 {
				got = append(got, fmt.Sprint(m.GetType(), m.GetIndex()))
			}
		}
		require.Equal(t, []string{"MsgApp 1", "MsgApp 3", "MsgSnap 0", "MsgApp 4"}, got)
		require.Len(t, lagging.raft.Received(), len(got)+1)
		require.Zero(t, lagging.Status().Dropped)
	})
}

// TestSnapshotOfAReplicaThatIsAddedWhileThereIsNoRoom: a request that waits for room among the messages of strangers when the replica is
// added, or finds none among those of its node then, has its result, too.
func TestSnapshotOfAReplicaThatIsAddedWhileThereIsNoRoom(t *testing.T) {
	for name, ids := range map[string][]types.ID{"of strangers": {13}, "of its node": {14, 15, 16, 17}} {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				lagging, leader, _, _ := withLeaderThatJoined(t, n, func(tr *rafthttp.Transport) { tr.ReceiveQueueMessages = 4 })
				for id := uint64(14); id < 18; id++ {
					lagging.AddReplica(id, 2, []string{testmember.URLOf(2)})
				}
				may := make(chan struct{})
				release := sync.OnceFunc(func() { close(may) })
				defer release()
				lagging.raft.OnProcess = func(_ context.Context, m *raftpb.Message) error {
					if m.GetFrom() != 12 {
						<-may
					}
					lagging.raft.Keep(m)
					return nil
				}
				leader.Send([]*raftpb.Message{testmember.MsgApp(11, 13, 1, nil)})
				for i := range uint64(8) {
					for _, id := range ids {
						leader.Send([]*raftpb.Message{testmember.MsgApp(11, id, i, nil)})
					}
				}
				time.Sleep(time.Second)
				dropped := lagging.Status().Dropped
				require.NotZero(t, dropped, "there is room")
				m, db := small("database")
				m.To, m.From = new(uint64(11)), new(uint64(12))
				leader.SendSnapshot(m)
				time.Sleep(time.Second)
				lagging.AddReplica(12, 2, []string{testmember.URLOf(2)})
				time.Sleep(time.Second)
				require.Empty(t, leader.raft.SnapshotReports())
				release()
				testmember.RequireEnd(t, m, db, true, leader.raft, raft.SnapshotFinish)
				require.Equal(t, dropped, lagging.Status().Dropped)
			})
		})
	}
}

// TestSnapshotOfAReplicaThatIsAddedWhileNothingElseWaits: its request waits on for the result of Process, although the group has no other
// stranger. While it is processed its context ends with the replica.
func TestSnapshotOfAReplicaThatIsAddedWhileNothingElseWaits(t *testing.T) {
	for _, removed := range []bool{false, true} {
		testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
			lagging, leader, ma, _ := withLeaderThatJoined(t, n, nil)
			h := &holder{release: make(chan struct{})}
			for id := range uint64(256) { // as many calls as there may be
				_, err := ma.Group(id+100, rafthttp.GroupConfig{Raft: h})
				require.NoError(t, err)
				postGroups(t, ma, batch(t, id+100, testmember.MsgApp(1, 2, 1, nil)))
			}
			lagging.raft.OnProcess = func(ctx context.Context, m *raftpb.Message) error {
				lagging.raft.Keep(m)
				if removed {
					lagging.RemovePeer(12)
					<-ctx.Done()
					return ctx.Err()
				}
				return nil
			}
			m, db := small("database")
			m.To, m.From = new(uint64(11)), new(uint64(12))
			leader.SendSnapshot(m)
			time.Sleep(time.Second)
			lagging.AddReplica(12, 2, []string{testmember.URLOf(2)})
			time.Sleep(time.Second)
			reports := leader.raft.SnapshotReports()
			close(h.release)
			require.Empty(t, reports)
			want := raft.SnapshotFinish
			if removed {
				want = raft.SnapshotFailure
			}
			testmember.RequireEnd(t, m, db, !removed, leader.raft, want)
			require.Len(t, lagging.raft.Received(), 1)
			require.Zero(t, lagging.Status().Dropped)
		})
	}
}

// TestStatusOfStrangers: it has what waits from replicas that their groups do not have, whose limits they share, and what was dropped.
func TestStatusOfStrangers(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		m := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) { tr.Raft, tr.ReceiveQueueMessages = rafthttp.NoRaft{}, 4 })
		g, release := join(t, m, 1, nil), make(chan struct{})
		g.raft.OnProcess = func(ctx context.Context, _ *raftpb.Message) error {
			select {
			case <-release:
			case <-ctx.Done():
			}
			return nil
		}
		for i := range uint64(6) {
			postGroups(t, m, batch(t, 1, testmember.MsgApp(1, 2, i, make([]byte, 1000))))
		}
		synctest.Wait()
		all := m.Status().Groups.Strangers
		require.Len(t, all, 3)
		l := all[queue.Append]
		require.Equal(t, "append", l.Name)
		require.NotZero(t, l.Queued)
		require.Equal(t, 6, l.Queued+int(l.Drops.QueueFull))
		require.NotZero(t, l.Drops.QueueFull)
		require.Equal(t, l.Drops.QueueFull, l.Dropped)
		require.Greater(t, l.QueuedBytes, int64(1000*l.Queued))
		require.Equal(t, 4, l.Capacity)
		require.Zero(t, all[queue.Control].Queued)
		g.AddPeer(2, []string{testmember.URLOf(2)})
		close(release)
		time.Sleep(time.Second)
		require.Zero(t, m.Status().Groups.Strangers[queue.Append].Queued)
	})
}
