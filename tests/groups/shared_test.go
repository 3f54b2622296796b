package groups_test

import (
	"context"
	"fmt"
	"math"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/stacks"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// TestMemoryLimitUsedUpByOthers: while the Transport's own members, or another group, hold all of MaxQueuedBytes that they may, on the way out or
// in, heartbeats and small appends of a group and of the Transport's members arrive.
func TestMemoryLimitUsedUpByOthers(t *testing.T) {
	const limit = 1 << 20
	large := func(to, from types.ID, i uint64) *raftpb.Message {
		return testmember.MsgApp(to, from, i, make([]byte, 32<<10))
	}
	for name, flood := range map[string]func(n *memnet.Network, ma, mb *testmember.Member, bad joined) func(i uint64){
		"own members, out": func(n *memnet.Network, ma, _ *testmember.Member, _ joined) func(uint64) {
			ma.AddPeer(3, hangingHost(n))
			return func(i uint64) { ma.Send([]*raftpb.Message{large(3, 1, i)}) }
		},
		"own members, in": func(n *memnet.Network, ma, mb *testmember.Member, _ joined) func(uint64) {
			mb.Recorder.OnProcess = func(ctx context.Context, m *raftpb.Message) error {
				if m.GetType() == raftpb.MsgApp {
					return blocks(ctx, m)
				}
				mb.Recorder.Keep(m)
				return nil
			}
			return func(i uint64) { ma.Send([]*raftpb.Message{large(2, 1, i)}) }
		},
		"group, out": func(n *memnet.Network, ma, _ *testmember.Member, bad joined) func(uint64) {
			bad.AddPeer(3, hangingHost(n))
			return func(i uint64) { bad.Send([]*raftpb.Message{large(3, 1, i)}) }
		},
		"group, in": func(_ *memnet.Network, _, mb *testmember.Member, bad joined) func(uint64) {
			b, err := mb.Group(1, rafthttp.GroupConfig{Raft: &testmember.Recorder{OnProcess: blocks}})
			if err != nil {
				panic(err)
			}
			b.AddPeer(1, []string{testmember.URLOf(1)})
			return func(i uint64) { bad.Send([]*raftpb.Message{large(2, 1, i)}) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				tune := func(tr *rafthttp.Transport) { tr.MaxQueuedBytes = limit }
				ma, mb := testmember.StartSimulated(t, n, 1, tune), testmember.StartSimulated(t, n, 2, tune)
				testmember.Connect(t, ma, mb)
				bad := join(t, ma, 1, nil)
				bad.AddPeer(2, []string{testmember.URLOf(2)})
				good, there := connect(t, ma, mb, 2, nil)
				d := new(delays)
				there.raft.OnProcess = d.process
				send := flood(n, ma, mb, bad)
				time.Sleep(5 * time.Second)
				before := testmember.HeapBytes()
				for i := range uint64(100) {
					for k := range uint64(10) {
						send(10*i + k)
					}
					now := uint64(time.Now().UnixNano())
					ma.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, i)})
					good.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, now), {
						Type: raftpb.MsgApp.Enum(), To: new(uint64(2)), From: new(uint64(1)), Term: new(uint64(1)), LogTerm: new(uint64(1)),
						Index: new(i), Commit: &now, Entries: []*raftpb.Entry{{Term: new(uint64(1)), Index: new(i + 1), Data: []byte("data")}},
					}})
					time.Sleep(100 * time.Millisecond)
				}
				require.Less(t, testmember.HeapBytes()-before, int64(8*limit))
				require.EqualValues(t, 200, d.n.Load())
				require.Less(t, time.Duration(d.most.Load()), 50*time.Millisecond)
				beats := 0
				for _, m := range mb.Recorder.Received() {
					if m.GetType() == raftpb.MsgHeartbeat {
						beats++
					}
				}
				require.Equal(t, 100, beats)
				require.Zero(t, good.raft.Unreachables(2))
			})
		})
	}
}

// hangingHost makes host 3, which host 1 gets no answer from, and returns its URLs.
func hangingHost(n *memnet.Network) []string {
	n.DialBlock(testmember.HostOf(1), testmember.HostOf(3), memnet.DialHangs)
	return testmember.SilentHost(n, 3)
}

// TestTwoHundredNodes: one node shares a group with each of 200 others, and another with all: all messages arrive, a lost node concerns its
// groups only, and a node costs few goroutines and little memory.
func TestTwoHundredNodes(t *testing.T) {
	nodes := 200
	if testmember.RaceEnabled { // it takes long
		nodes = 50
	}
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		hub := startNode(t, n, 1)
		all := join(t, hub, 1, nil)
		var here, there []joined
		var ms []*testmember.Member
		for i := range types.ID(nodes) {
			id := i + 2
			m := startNode(t, n, id)
			a, b, c := join(t, hub, uint64(id), nil), join(t, m, uint64(id), nil), join(t, m, 1, nil)
			a.AddPeer(id, []string{testmember.URLOf(id)})
			all.AddPeer(id, []string{testmember.URLOf(id)})
			for _, g := range []joined{b, c} {
				g.AddPeer(1, []string{testmember.URLOf(1)})
			}
			here, there, ms = append(here, a), append(there, b), append(ms, m)
		}
		time.Sleep(5 * time.Second)
		require.Equal(t, nodes, all.ActivePeers())
		for range 3 {
			for i := range here {
				id := types.ID(i) + 2
				here[i].Send([]*raftpb.Message{testmember.Heartbeat(id, 1, 1)})
				there[i].Send([]*raftpb.Message{testmember.Heartbeat(1, id, 1)})
				all.Send([]*raftpb.Message{testmember.Heartbeat(id, 1, 1)})
			}
			time.Sleep(100 * time.Millisecond)
		}
		for i := range here {
			require.Len(t, here[i].raft.Received(), 3)
			require.Len(t, there[i].raft.Received(), 3)
		}
		ms[0].Stop()
		n.Host(testmember.HostOf(2)).Crash()
		all.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1)})
		time.Sleep(10 * time.Second)
		require.NotZero(t, all.raft.Unreachables(2))
		require.NotZero(t, here[0].raft.Unreachables(2))
		for i := range here[1:] {
			require.Zero(t, here[i+1].raft.Unreachables(uint64(i)+3)+all.raft.Unreachables(uint64(i)+3))
		}
		require.Equal(t, nodes-1, all.ActivePeers())
		before := stacks.InBubble()
		for _, g := range append(here, all) {
			g.Stop()
		}
		time.Sleep(time.Second)
		synctest.Wait()
		require.LessOrEqual(t, before-stacks.InBubble(), nodes*10)
		require.Empty(t, hub.Status().Groups.Nodes)
	})
}

// TestGroupsJoinedAndLeftInALoop: with messages in both directions, snapshots, and messages of strangers, they leave no goroutine and no memory.
func TestGroupsJoinedAndLeftInALoop(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		ma, mb := startNode(t, n, 1), startNode(t, n, 2)
		kept, _ := connect(t, ma, mb, 1, nil)
		time.Sleep(time.Second)
		index := uint64(0)
		loop := func(rounds int) (goroutines int, heap int64) {
			for range rounds {
				index++
				g := 2 + index%50
				a, err := ma.Group(g, rafthttp.GroupConfig{Raft: &discarder{}, Replica: 100 + index})
				require.NoError(t, err)
				b, err := mb.Group(g, rafthttp.GroupConfig{Raft: &discarder{}, Replica: 1<<40 + index, Snapshotter: testmember.SavesAll})
				require.NoError(t, err)
				a.AddReplica(1<<40+index, 2, []string{testmember.URLOf(2)})
				if index%2 == 0 {
					b.AddReplica(100+index, 1, []string{testmember.URLOf(1)})
				} // or a is a stranger, which is answered
				to, from := types.ID(1<<40+index), types.ID(100+index)
				a.Send([]*raftpb.Message{testmember.Heartbeat(to, from, 1), testmember.MsgApp(to, from, 1, []byte("data")), testmember.MsgSnap(to, from, 1)})
				m, _ := small("database")
				m.To, m.From = new(uint64(to)), new(uint64(from))
				a.SendSnapshot(m)
				if index%3 > 0 {
					time.Sleep(10 * time.Millisecond)
				}
				b.Send([]*raftpb.Message{answerOf(testmember.Heartbeat(to, from, 1), raftpb.MsgHeartbeatResp)})
				if index%5 == 0 {
					a.Stop()
					b.Stop()
				} else {
					b.Stop()
					a.Send([]*raftpb.Message{testmember.Heartbeat(to, from, 1)}) // is refused
					a.Stop()
				}
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			return stacks.InBubble(), testmember.HeapBytes()
		}
		loop(300)
		goroutines, heap := loop(100)
		g, h := loop(700)
		require.LessOrEqual(t, g, goroutines)
		require.Less(t, h-heap, int64(1<<20))
		require.Equal(t, 1, ma.Status().Groups.Groups)
		require.Len(t, ma.Status().Groups.Nodes, 1)
		require.Zero(t, kept.raft.Unreachables(2))
	})
}

// discarder is a Raft that keeps nothing.
type discarder struct{}

func (discarder) Process(context.Context, *raftpb.Message) error { return nil }
func (discarder) IsIDRemoved(uint64) bool                        { return false }
func (discarder) ReportUnreachable(uint64)                       {}
func (discarder) ReportSnapshot(uint64, raft.SnapshotStatus)     {}

// TestIDsOfGroups: groups and replicas may have any id but 0 and those of raft's local threads, in messages, rows, snapshots and refusals.
func TestIDsOfGroups(t *testing.T) {
	const largest = raft.LocalApplyThread - 1 // of a replica or node
	for _, tt := range []struct{ group, a, b uint64 }{{math.MaxUint64, largest, 1}, {1, 1, largest}, {math.MaxInt64 + 1, 1 << 63, largest}} {
		t.Run(fmt.Sprintf("%x %x %x", tt.group, tt.a, tt.b), func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				ma, mb := startNode(t, n, 1), startNode(t, n, types.ID(largest))
				a := join(t, ma, tt.group, func(c *rafthttp.GroupConfig) { c.Replica = tt.a })
				b := join(t, mb, tt.group, func(c *rafthttp.GroupConfig) { c.Replica, c.Snapshotter = tt.b, testmember.SavesAll })
				a.AddReplica(tt.b, types.ID(largest), []string{testmember.URLOf(types.ID(largest))})
				b.AddReplica(tt.a, 1, []string{testmember.URLOf(1)})
				time.Sleep(time.Second)
				to, from := types.ID(tt.b), types.ID(tt.a)
				for i := range uint64(3) {
					a.Send([]*raftpb.Message{testmember.Heartbeat(to, from, math.MaxUint64), testmember.MsgApp(to, from, i, nil)})
					time.Sleep(100 * time.Millisecond)
				}
				require.Len(t, b.raft.Received(), 6)
				m := snap.NewMessage(testmember.MsgSnap(to, from, 9), testmember.Throttled([]byte("x"), 1, 0), 1)
				a.SendSnapshot(m)
				require.True(t, <-m.CloseNotify())
				st, ok := ma.GroupStatus(tt.group)
				require.True(t, ok)
				require.Equal(t, tt.a, st.Replica)
				require.Equal(t, tt.b, st.Replicas[0].ID)
				b.Stop()
				time.Sleep(3 * time.Second)
				a.Send([]*raftpb.Message{testmember.Heartbeat(to, from, 1)}) // by POST
				time.Sleep(time.Second)
				require.EqualValues(t, 1, a.Status().Refused)
				require.NotZero(t, a.raft.Unreachables(tt.b))
			})
		})
	}
}

// slowScheduler is a GroupReceiver whose ReceiveGroups blocks for messages of one node.
type slowScheduler struct {
	scheduler
	slow    types.ID
	release chan struct{}
	stopped atomic.Bool
	late    atomic.Int32
	running atomic.Int32
}

func (s *slowScheduler) ReceiveGroups(node types.ID, msgs []rafthttp.GroupMessage) {
	if s.stopped.Load() {
		s.late.Add(1)
	}
	s.running.Add(1)
	defer s.running.Add(-1)
	if node == s.slow {
		<-s.release
	}
	s.scheduler.ReceiveGroups(node, msgs)
}

// TestSlowGroupReceiver: one that blocks delays the messages of the node, and not those of others; what waits for it waits at the sender, which
// drops and reports what is over its limits. Stop waits for it, and nothing is called after.
func TestSlowGroupReceiver(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		s := &slowScheduler{slow: 2, release: make(chan struct{})}
		s.messages, s.unreachable = map[uint64][]*raftpb.Message{}, map[uint64]int{}
		ma := testmember.StartSimulated(t, n, 1, testmember.Tuned(noRaft, func(tr *rafthttp.Transport) { tr.GroupReceiver = s }))
		limited := func(tr *rafthttp.Transport) { tr.MaxQueuedBytes = 4 << 20 }
		mb, mc := testmember.StartSimulated(t, n, 2, testmember.Tuned(noRaft, limited)), startNode(t, n, 3)
		a, b := connect(t, ma, mb, 1, nil)
		c := join(t, mc, 1, nil)
		a.AddPeer(3, []string{testmember.URLOf(3)})
		c.AddPeer(1, []string{testmember.URLOf(1)})
		time.Sleep(time.Second)
		before := testmember.HeapBytes()
		for i := range uint64(300) {
			b.Send([]*raftpb.Message{testmember.MsgApp(1, 2, i, make([]byte, 100<<10)), ofKindTo(1, 2, 100<<10)})
			c.Send([]*raftpb.Message{testmember.Heartbeat(1, 3, i)})
			time.Sleep(100 * time.Millisecond)
		}
		require.Less(t, testmember.HeapBytes()-before, int64(16<<20))
		require.Len(t, s.of(1), 300, "of the other node")
		require.NotZero(t, b.raft.Unreachables(1), "the sender knows of losses")
		var returned atomic.Bool
		go func() {
			ma.Stop()
			s.stopped.Store(true)
			returned.Store(true)
		}()
		time.Sleep(time.Minute)
		early, running := returned.Load(), s.running.Load()
		close(s.release)
		time.Sleep(time.Minute)
		require.False(t, early && running > 0)
		require.True(t, returned.Load())
		require.Zero(t, s.late.Load()+s.running.Load())
	})
}

// ofKindTo returns a proposal of some bytes.
func ofKindTo(to, from types.ID, bytes int) *raftpb.Message {
	return &raftpb.Message{Type: raftpb.MsgProp.Enum(), To: new(uint64(to)), From: new(uint64(from)), Entries: []*raftpb.Entry{{Data: make([]byte, bytes)}}}
}

// TestStopDuringReceiveGroups: messages come all the time while the Transport is stopped: none after Stop.
func TestStopDuringReceiveGroups(t *testing.T) {
	for range bubble.Runs(10, 2) {
		testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
			s := &slowScheduler{release: make(chan struct{})}
			s.messages, s.unreachable = map[uint64][]*raftpb.Message{}, map[uint64]int{}
			ma := testmember.StartSimulated(t, n, 1, testmember.Tuned(noRaft, func(tr *rafthttp.Transport) { tr.GroupReceiver = s }))
			mb := startNode(t, n, 2)
			_, b := connect(t, ma, mb, 1, nil)
			time.Sleep(time.Second)
			done := make(chan struct{})
			go func() {
				defer close(done)
				for i := range uint64(2000) {
					b.Send([]*raftpb.Message{testmember.Heartbeat(1, 2, i), testmember.MsgApp(1, 2, i, nil), testmember.MsgSnap(1, 2, i)})
					if i%100 == 0 {
						time.Sleep(time.Millisecond)
					}
				}
			}()
			time.Sleep(10 * time.Millisecond)
			ma.Stop()
			s.stopped.Store(true)
			<-done
			time.Sleep(time.Second)
			require.Zero(t, s.late.Load()+s.running.Load())
		})
	}
}
