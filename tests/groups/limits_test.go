package groups_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// largeFor are messages that only a node with a smaller MaxMessageBytes, of 64 KiB, takes for too large.
var largeFor = map[string]func(i uint64) *raftpb.Message{
	"append":   func(i uint64) *raftpb.Message { return testmember.MsgApp(2, 1, i, make([]byte, 100<<10)) },
	"proposal": func(uint64) *raftpb.Message { return ofKind(queue.Proposal, 1, 100<<10) },
	"many entries": func(i uint64) *raftpb.Message {
		m := testmember.MsgApp(2, 1, 1000*i, nil)
		for range 1000 {
			m.Entries = append(m.Entries, &raftpb.Entry{})
		}
		return m
	},
}

// TestGroupMessageOverTheNodesLimit: a message that only the receiver takes for too large costs its group that message, and the others
// nothing: the streams stay, and the sender's raft is told.
func TestGroupMessageOverTheNodesLimit(t *testing.T) {
	for name, large := range largeFor {
		for _, byPost := range []bool{false, true} {
			t.Run(map[bool]string{false: name, true: name + " by post"}[byPost], func(t *testing.T) {
				testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
					if byPost {
						n.DialBlock(testmember.HostOf(2), testmember.HostOf(1), memnet.DialRefused)
					}
					ma := startNode(t, n, 1)
					mb := testmember.StartSimulated(t, n, 2, func(tr *rafthttp.Transport) { tr.Raft, tr.MaxMessageBytes = rafthttp.NoRaft{}, 64<<10 })
					bad, badThere := connect(t, ma, mb, 1, nil)
					good, goodThere := connect(t, ma, mb, 2, nil)
					d := new(delays)
					goodThere.raft.OnProcess = d.process
					time.Sleep(5 * time.Second)
					for i := range uint64(100) {
						now := uint64(time.Now().UnixNano())
						bad.Send([]*raftpb.Message{large(10 * i)})
						good.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, now), {
							Type: raftpb.MsgApp.Enum(), To: new(uint64(2)), From: new(uint64(1)), Term: new(uint64(1)), LogTerm: new(uint64(1)),
							Index: new(i), Commit: &now, Entries: []*raftpb.Entry{{Term: new(uint64(1)), Index: new(i + 1), Data: []byte("data")}},
						}})
						time.Sleep(100 * time.Millisecond)
					}
					require.EqualValues(t, 200, d.n.Load())
					require.Less(t, time.Duration(d.most.Load()), 50*time.Millisecond)
					require.Zero(t, good.raft.Unreachables(2))
					require.GreaterOrEqual(t, bad.raft.Unreachables(2), 3)
					require.NotZero(t, bad.Status().Refused)
					require.Empty(t, badThere.raft.Received())
					require.GreaterOrEqual(t, badThere.Status().Drops.TooLarge, uint64(3))
					for _, s := range groupNode(t, mb, 1).Streams {
						if s.Direction == rafthttp.StreamIn && !byPost {
							require.EqualValues(t, 1, s.Connects, s.Name)
						}
					}
					bad.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1), testmember.MsgApp(2, 1, 1<<40, []byte("small"))})
					time.Sleep(time.Second)
					require.Len(t, badThere.raft.Received(), 2)
				})
			})
		}
	}
}

// TestGroupMsgSnapOverTheNodesLimit: it has failed.
func TestGroupMsgSnapOverTheNodesLimit(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		ma := startNode(t, n, 1)
		mb := testmember.StartSimulated(t, n, 2, func(tr *rafthttp.Transport) { tr.Raft, tr.MaxMessageBytes = rafthttp.NoRaft{}, 64<<10 })
		a, b := connect(t, ma, mb, 1, nil)
		time.Sleep(time.Second)
		m := testmember.MsgSnap(2, 1, 5)
		m.Snapshot.Data = make([]byte, 100<<10)
		a.Send([]*raftpb.Message{m})
		time.Sleep(time.Second)
		a.Send([]*raftpb.Message{testmember.MsgSnap(2, 1, 6)})
		time.Sleep(time.Second)
		require.Equal(t, []raft.SnapshotStatus{raft.SnapshotFailure, raft.SnapshotFinish}, a.raft.SnapshotReports())
		require.Len(t, b.raft.Received(), 1)
	})
}

// TestGroupMessageOverOurOwnLimit: Send drops it, and tells raft; the streams stay.
func TestGroupMessageOverOurOwnLimit(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		ma := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) { tr.Raft, tr.MaxMessageBytes = rafthttp.NoRaft{}, 64<<10 })
		a, b := connect(t, ma, startNode(t, n, 2), 1, nil)
		time.Sleep(time.Second)
		for _, large := range largeFor {
			a.Send([]*raftpb.Message{large(1), testmember.Heartbeat(2, 1, 1)})
		}
		time.Sleep(time.Second)
		require.Len(t, b.raft.Received(), len(largeFor))
		require.NotZero(t, a.raft.Unreachables(2))
		require.EqualValues(t, 2, groupLane(t, ma, 2, "groupapp").Drops.TooLarge)
		require.EqualValues(t, 1, groupLane(t, ma, 2, "group").Drops.TooLarge)
	})
}

// TestLargePostOfAGroupGoesAlone: a POST with a message that is larger than others together has no others, which its loss would cost.
func TestLargePostOfAGroupGoesAlone(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		n.DialBlock(testmember.HostOf(2), testmember.HostOf(1), memnet.DialRefused)
		ma := startNode(t, n, 1)
		mb := testmember.StartSimulated(t, n, 2, func(tr *rafthttp.Transport) { tr.Raft, tr.MaxMessageBytes = rafthttp.NoRaft{}, 64<<10 })
		bad, badThere := connect(t, ma, mb, 1, nil)
		var good, goodThere []joined
		for id := range uint64(20) {
			a, b := connect(t, ma, mb, id+2, nil)
			good, goodThere = append(good, a), append(goodThere, b)
		}
		release := make(chan struct{})
		goodThere[0].raft.OnProcess = func(context.Context, *raftpb.Message) error { <-release; return nil }
		time.Sleep(5 * time.Second)
		for range 5 { // the queue has some of all when a worker takes from it
			bad.Send([]*raftpb.Message{testmember.MsgApp(2, 1, 1, make([]byte, 3<<20))})
			for _, g := range good {
				g.Send([]*raftpb.Message{testmember.MsgApp(2, 1, 1, make([]byte, 100))})
			}
		}
		time.Sleep(10 * time.Second)
		close(release)
		require.Empty(t, badThere.raft.Received())
		require.NotZero(t, bad.raft.Unreachables(2))
		for i := range good {
			require.Zero(t, good[i].raft.Unreachables(2), "group %d", i+2)
		}
	})
}

// TestPostsOfLargeControlMessages: however large the control messages are that wait together, no POST is longer than the receiver reads.
func TestPostsOfLargeControlMessages(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		n.DialBlock(testmember.HostOf(2), testmember.HostOf(1), memnet.DialRefused)
		ma := startNode(t, n, 1)
		mb := testmember.StartSimulated(t, n, 2, func(tr *rafthttp.Transport) { tr.Raft, tr.MaxMessageBytes = rafthttp.NoRaft{}, 256<<10 })
		a, b := connect(t, ma, mb, 1, nil)
		time.Sleep(5 * time.Second)
		var beats []*raftpb.Message
		for i := range uint64(100) {
			m := testmember.Heartbeat(2, 1, i)
			m.Context = make([]byte, 100<<10)
			beats = append(beats, m)
		}
		a.Send(beats)
		time.Sleep(10 * time.Second)
		require.Len(t, b.raft.Received(), len(beats))
		require.Zero(t, a.raft.Unreachables(2))
	})
}

// TestLargeAppendBesideAMsgSnap: each message of one replica is judged for itself, also if they are posted at the same time: an append that
// is too large for the node fails no MsgSnap, a MsgSnap no append, and one MsgSnap no other.
func TestLargeAppendBesideAMsgSnap(t *testing.T) {
	largeSnap := testmember.MsgSnap(2, 1, 4)
	largeSnap.Snapshot.Data = make([]byte, 100<<10)
	app, largeApp := testmember.MsgApp(2, 1, 1<<30, []byte("small")), testmember.MsgApp(2, 1, 1, make([]byte, 100<<10))
	continued := testmember.MsgApp(2, 1, 1<<30+1, []byte("continues"))
	failed, done := raft.SnapshotFailure, raft.SnapshotFinish
	for name, tc := range map[string]struct {
		send    []*raftpb.Message
		want    int // messages that arrive
		reports []raft.SnapshotStatus
	}{
		"append":     {[]*raftpb.Message{largeApp, testmember.MsgSnap(2, 1, 5)}, 1, []raft.SnapshotStatus{done}},
		"MsgSnap":    {[]*raftpb.Message{app, largeSnap, continued}, 2, []raft.SnapshotStatus{failed}},
		"two":        {[]*raftpb.Message{largeSnap, testmember.MsgSnap(2, 1, 5)}, 1, []raft.SnapshotStatus{failed, done}},
		"everything": {[]*raftpb.Message{app, largeSnap, continued, largeApp, testmember.MsgSnap(2, 1, 5)}, 3, []raft.SnapshotStatus{failed, done}},
	} {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				n.DialBlock(testmember.HostOf(2), testmember.HostOf(1), memnet.DialRefused)
				ma := startNode(t, n, 1)
				mb := testmember.StartSimulated(t, n, 2, func(tr *rafthttp.Transport) { tr.Raft, tr.MaxMessageBytes = rafthttp.NoRaft{}, 64<<10 })
				a, b := connect(t, ma, mb, 1, nil)
				busy, _ := connect(t, ma, mb, 2, nil)
				time.Sleep(5 * time.Second)
				n.Link(testmember.HostOf(1), testmember.HostOf(2)).SetDelay(100 * time.Millisecond)
				for range 10 { // all workers have a POST
					busy.Send([]*raftpb.Message{testmember.MsgApp(2, 1, 1, nil)})
					time.Sleep(time.Millisecond)
				}
				for _, m := range tc.send {
					a.Send([]*raftpb.Message{proto.CloneOf(m)})
				}
				time.Sleep(10 * time.Second)
				require.Len(t, b.raft.Received(), tc.want)
				require.ElementsMatch(t, tc.reports, a.raft.SnapshotReports())
				require.EqualValues(t, len(tc.send)-tc.want, b.Status().Drops.TooLarge)
			})
		})
	}
}
