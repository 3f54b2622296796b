package followers_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// crowded is a leader, 1, whose queue of appends to the follower 2 holds eight, on a
// line that carries one a second.
type crowded struct {
	t                *testing.T
	leader, follower *testmember.Member
	log              *observer.ObservedLogs
}

const crowdedQueue = 8

// crowd sends twenty appends of one entry each, for the entries 1 to 20. The first
// eight find room.
func crowd(t *testing.T, n *memnet.Network) *crowded {
	c := crowdLine(t, n)
	c.append(0, 20)
	require.Equal(t, crowdedQueue, c.lane().Queued)
	require.EqualValues(t, 12, c.lane().Dropped)
	require.Zero(t, c.leader.Recorder.Unreachables(2))
	return c
}

// crowdLine sends nothing yet.
func crowdLine(t *testing.T, n *memnet.Network) *crowded {
	core, logs := observer.New(zap.InfoLevel)
	a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) {
		tr.SendQueueMessages, tr.Logger = crowdedQueue, zap.New(core)
	})
	b := testmember.StartSimulated(t, n, 2, testmember.Receives(testmember.SavesAll))
	testmember.Connect(t, a, b)
	n.Link("m1", "m2").SetBandwidth(crowdedEntry)
	return &crowded{t, a, b, logs}
}

const crowdedEntry = 256 << 10

func (c *crowded) lane() rafthttp.LaneStatus { return testmember.LaneOf(c.leader, 2, "msgapp") }

// append sends the entries (from, to], each in a message of its own.
func (c *crowded) append(from, to uint64) {
	for i := from; i < to; i++ {
		c.leader.Send([]*raftpb.Message{testmember.MsgApp(2, 1, i, make([]byte, crowdedEntry))})
	}
}

// answer has the follower acknowledge the entries up to index, or reject one.
func (c *crowded) answer(index uint64, reject bool) {
	m := testmember.Message(raftpb.MsgAppResp, 1)
	m.From, m.Index, m.Reject = new(uint64(2)), new(index), new(reject)
	before := len(c.leader.Recorder.Received())
	c.follower.Send([]*raftpb.Message{m})
	testmember.Within(c.t, time.Second, func() bool { return len(c.leader.Recorder.Received()) > before })
}

// drain waits until half of the queue is written, and raft has been told.
func (c *crowded) drain() {
	c.t.Helper()
	testmember.Within(c.t, 10*time.Second, func() bool { return c.leader.Recorder.Unreachables(2) == 1 })
	require.LessOrEqual(c.t, c.lane().Queued, crowdedQueue/2)
}

// arrived returns the indexes of the entries that the follower got, in order.
func (c *crowded) arrived() (indexes []uint64) {
	for _, m := range c.follower.Recorder.Received() {
		for _, e := range m.GetEntries() {
			indexes = append(indexes, e.GetIndex())
		}
	}
	return indexes
}

// arrivals returns how often an entry arrived.
func (c *crowded) arrivals(index uint64) (n int) {
	for _, i := range c.arrived() {
		if i == index {
			n++
		}
	}
	return n
}

func (c *crowded) requireArrive(want ...uint64) {
	c.t.Helper()
	testmember.Within(c.t, 30*time.Second, func() bool { return len(c.arrived()) >= len(want) })
	synctest.Wait()
	require.Equal(c.t, want, c.arrived())
}

func crowdedTest(name string, t *testing.T, body func(t *testing.T, c *crowded)) {
	t.Run(name, func(t *testing.T) {
		testmember.Simulate(t, func(t *testing.T, n *memnet.Network) { body(t, crowd(t, n)) })
	})
}

// TestAppendWindow: what a full queue of appends drops is reported once it has drained,
// and what raft then sends again is not sent while it is on its way.
func TestAppendWindow(t *testing.T) {
	crowdedTest("told once, when half has drained", t, func(t *testing.T, c *crowded) {
		testmember.Always(t, 2500*time.Millisecond, func() bool { return c.leader.Recorder.Unreachables(2) == 0 })
		c.drain()
		c.requireArrive(1, 2, 3, 4, 5, 6, 7, 8)
		require.Equal(t, 1, c.leader.Recorder.Unreachables(2))
	})
	crowdedTest("a copy is not sent, what follows is", t, func(t *testing.T, c *crowded) {
		c.drain()
		c.append(20, 22) // raft does not know yet
		c.append(2, 12)  // now it does, and 2 was the last that was acknowledged
		require.EqualValues(t, 6, c.lane().Duplicates)
		c.requireArrive(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)
	})
	crowdedTest("an append that begins with copies is sent without these", t, func(t *testing.T, c *crowded) {
		c.drain()
		m := testmember.MsgApp(2, 1, 6, nil)
		m.LogTerm, m.Commit = new(uint64(0)), new(uint64(5))
		for i := range uint64(3) {
			m.Entries = append(m.Entries, testmember.MsgApp(2, 1, 7+i, nil).Entries...)
		}
		kept := proto.Clone(m)
		c.leader.Send([]*raftpb.Message{m})
		c.append(10, 11)
		c.requireArrive(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)
		got := c.follower.Recorder.Received()[crowdedQueue]
		require.True(t, proto.Equal(kept, m), "it is raft's")
		require.EqualValues(t, 8, got.GetIndex())
		require.EqualValues(t, 1, got.GetLogTerm())
		require.EqualValues(t, 5, got.GetCommit())
	})
	crowdedTest("nor is its rest, once that was sent", t, func(t *testing.T, c *crowded) {
		c.drain()
		m := testmember.MsgApp(2, 1, 6, nil)
		for i := range uint64(3) {
			m.Entries = append(m.Entries, testmember.MsgApp(2, 1, 7+i, nil).Entries...)
		}
		for range 4 { // with each heartbeat
			c.leader.Send([]*raftpb.Message{m})
		}
		time.Sleep(30 * time.Second)
		require.Equal(t, []uint64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, c.arrived())
	})
	crowdedTest("all is sent again once all was acknowledged", t, func(t *testing.T, c *crowded) {
		c.requireArrive(1, 2, 3, 4, 5, 6, 7, 8)
		c.answer(8, false)
		c.append(4, 5)
		c.requireArrive(1, 2, 3, 4, 5, 6, 7, 8, 5)
	})
	crowdedTest("a snapshot beyond the window ends it", t, func(t *testing.T, c *crowded) {
		c.requireArrive(1, 2, 3, 4, 5, 6, 7, 8)
		c.answer(100, false)
		c.append(100, 101)
		c.requireArrive(1, 2, 3, 4, 5, 6, 7, 8, 101)
	})
	crowdedTest("it goes on behind a snapshot for which there was no room yet", t, func(t *testing.T, c *crowded) {
		c.answer(100, false)
		require.Equal(t, 1, c.leader.Recorder.Unreachables(2))
		c.append(100, 102)
		testmember.Within(t, 10*time.Second, func() bool { return c.leader.Recorder.Unreachables(2) == 2 })
		c.append(100, 102)
		c.requireArrive(1, 2, 3, 4, 5, 6, 7, 8, 101, 102)
	})
	crowdedTest("a rejected append ends it, and raft is told", t, func(t *testing.T, c *crowded) {
		c.answer(2, true)
		require.Equal(t, 1, c.leader.Recorder.Unreachables(2))
		testmember.Within(t, 10*time.Second, func() bool { return c.lane().Queued < crowdedQueue })
		c.append(2, 3)
		c.append(2, 3)    // by the next heartbeat
		c.answer(6, true) // to what was queued before
		c.append(2, 3)    // by the next
		c.requireArrive(1, 2, 3, 4, 5, 6, 7, 8, 3)
		c.answer(2, true) // lost again
		c.append(2, 3)
		c.requireArrive(1, 2, 3, 4, 5, 6, 7, 8, 3, 3)
		c.answer(3, false)
		c.append(2, 3)
		c.requireArrive(1, 2, 3, 4, 5, 6, 7, 8, 3, 3, 3)
	})
	crowdedTest("an older term's answer says nothing", t, func(t *testing.T, c *crowded) {
		c.drain()
		m := testmember.Message(raftpb.MsgAppResp, 1)
		m.From, m.Term, m.Index, m.Reject = new(uint64(2)), new(uint64(0)), new(uint64(2)), new(true)
		c.follower.Send([]*raftpb.Message{m})
		testmember.Within(t, time.Second, func() bool { return len(c.leader.Recorder.Received()) == 1 })
		c.append(2, 3)
		c.requireArrive(1, 2, 3, 4, 5, 6, 7, 8)
	})
}

// TestAppendWindowBeginsAnew: what cannot be of the window ends it.
func TestAppendWindowBeginsAnew(t *testing.T) {
	crowdedTest("another term", t, func(t *testing.T, c *crowded) {
		c.drain()
		m := testmember.MsgApp(2, 1, 2, []byte("another"))
		m.Term = new(uint64(2))
		c.leader.Send([]*raftpb.Message{m})
		c.requireArrive(1, 2, 3, 4, 5, 6, 7, 8, 3)
	})
	crowdedTest("an append before the window", t, func(t *testing.T, c *crowded) {
		c.requireArrive(1, 2, 3, 4, 5, 6, 7, 8)
		c.answer(100, false)
		c.append(100, 120) // behind a snapshot, and too many again
		testmember.Within(t, 10*time.Second, func() bool { return c.leader.Recorder.Unreachables(2) == 2 })
		c.append(50, 51)
		c.requireArrive(1, 2, 3, 4, 5, 6, 7, 8, 101, 102, 103, 104, 105, 106, 107, 108, 51)
	})
}

// TestAppendWindowEnds: nothing is held back for long if no acknowledgement comes.
func TestAppendWindowEnds(t *testing.T) {
	crowdedTest("after silence", t, func(t *testing.T, c *crowded) {
		c.requireArrive(1, 2, 3, 4, 5, 6, 7, 8)
		require.Equal(t, 1, c.leader.Recorder.Unreachables(2))
		c.append(4, 5)
		require.EqualValues(t, 1, c.lane().Duplicates)
		testmember.Within(t, 2*testmember.ReadTimeout, func() bool { return c.leader.Recorder.Unreachables(2) == 2 })
		c.append(4, 5)
		c.requireArrive(1, 2, 3, 4, 5, 6, 7, 8, 5)
	})
	crowdedTest("among appends of another group", t, func(t *testing.T, c *crowded) {
		c.requireArrive(1, 2, 3, 4, 5, 6, 7, 8)
		c.append(4, 5)
		require.EqualValues(t, 1, c.lane().Duplicates)
		for start := time.Now(); c.leader.Recorder.Unreachables(2) == 1; time.Sleep(time.Second) {
			require.Less(t, time.Since(start), 2*testmember.ReadTimeout)
			c.leader.Send([]*raftpb.Message{ofGroup2(1000)})
		}
		c.append(4, 5)
		testmember.Within(t, 10*time.Second, func() bool { return c.arrivals(5) == 2 })
	})
	crowdedTest("not while some come", t, func(t *testing.T, c *crowded) {
		c.requireArrive(1, 2, 3, 4, 5, 6, 7, 8)
		for i := range uint64(7) {
			time.Sleep(testmember.ReadTimeout * 4 / 5)
			c.answer(i+1, false)
		}
		require.Equal(t, 1, c.leader.Recorder.Unreachables(2))
	})
	crowdedTest("with its stream", t, func(t *testing.T, c *crowded) {
		c.follower.RemovePeer(1)
		testmember.Within(t, time.Second, func() bool { return !c.lane().Up })
		require.NotZero(t, c.leader.Recorder.Unreachables(2))
		c.follower.AddPeer(1, []string{c.leader.URL})
		testmember.WaitStreams(t, c.leader, 2)
		before := len(c.arrived())
		c.append(2, 3)
		testmember.Within(t, 5*time.Second, func() bool { return len(c.arrived()) == before+1 })
	})
}

// TestAppendWindowOfPosts: what a post that failed had is sent again at once.
func TestAppendWindowOfPosts(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a := testmember.StartSimulated(t, n, 1, nil)
		a.AddPeer(2, testmember.SilentHost(n, 2))
		n.Partition([]string{"m1"}, []string{"m2"})
		pipeline := func() rafthttp.LaneStatus { return testmember.LaneOf(a, 2, "pipeline") }
		for i := range uint64(100) {
			a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, i, nil)})
		}
		require.EqualValues(t, 100-pipeline().Queued, pipeline().Drops.QueueFull)
		require.Zero(t, a.Recorder.Unreachables(2), "told before there is room")
		a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, 0, nil)})
		require.EqualValues(t, 1, pipeline().Duplicates)

		testmember.Within(t, time.Minute, func() bool { return a.Recorder.Unreachables(2) > 0 })
		require.NotZero(t, pipeline().Drops.Disconnected)
		held := pipeline().Queued
		a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, 0, nil)})
		require.Equal(t, held+1, pipeline().Queued)
		require.EqualValues(t, 1, pipeline().Duplicates)
	})
}

// TestAppendsWithoutRoomAreExplained: the log names the setting that helps, once.
func TestAppendsWithoutRoomAreExplained(t *testing.T) {
	crowdedTest("once", t, func(t *testing.T, c *crowded) {
		c.drain()
		lines := c.log.FilterMessageSnippet("raft has more appends in flight than the queue holds")
		require.Equal(t, 1, lines.Len())
		require.Contains(t, lines.All()[0].Message, "LimitInflight")
		c.append(2, 40)
		testmember.Within(t, 10*time.Second, func() bool { return c.leader.Recorder.Unreachables(2) == 2 })
		require.Equal(t, 1, c.log.FilterMessageSnippet("raft has more appends in flight than the queue holds").Len())
	})
}

// TestStalledProcessEndsTheAppendStream: a full receive queue waits while Process takes
// something within the read timeout, however slowly; one that stands still ends the
// stream, so that the sender's raft is told.
func TestStalledProcessEndsTheAppendStream(t *testing.T) {
	const queue, slow = 8, testmember.ReadTimeout * 9 / 10
	start := func(t *testing.T, n *memnet.Network, process func(context.Context)) (a, b *testmember.Member) {
		a = testmember.StartSimulated(t, n, 1, nil)
		b = testmember.StartSimulated(t, n, 2, func(tr *rafthttp.Transport) { tr.ReceiveQueueMessages = queue })
		b.Recorder.OnProcess = func(ctx context.Context, m *raftpb.Message) error {
			if m.GetType() == raftpb.MsgApp {
				process(ctx)
			}
			b.Recorder.Keep(m)
			return nil
		}
		testmember.Connect(t, a, b)
		return a, b
	}
	t.Run("slow", func(t *testing.T) {
		testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
			a, b := start(t, n, func(context.Context) { time.Sleep(slow) })
			for i := range uint64(3 * queue) {
				a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, i, make([]byte, 100<<10))})
			}
			testmember.Within(t, 3*queue*slow+time.Second, func() bool { return len(b.Recorder.Received()) == 3*queue })
			require.Zero(t, testmember.LaneOf(b, 1, "append").Dropped)
			require.Zero(t, a.Recorder.Unreachables(2))
		})
	})
	t.Run("stalled", func(t *testing.T) {
		testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
			release := make(chan struct{})
			a, b := start(t, n, func(ctx context.Context) {
				select {
				case <-release:
				case <-ctx.Done():
				}
			})
			defer close(release)
			for i := range uint64(3 * queue) {
				a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, i, nil)})
			}
			testmember.Always(t, testmember.ReadTimeout*9/10, func() bool { return a.Recorder.Unreachables(2) == 0 })
			testmember.Within(t, testmember.ReadTimeout, func() bool { return a.Recorder.Unreachables(2) > 0 })
			drops := testmember.LaneOf(b, 1, "append").Drops.QueueFull // but for what was still on its way
			require.NotZero(t, drops)
			require.LessOrEqual(t, drops, uint64(2*queue))
			require.Contains(t, b.Status().Peers[0].LastError, rafthttp.ErrProcessStalled.Error())
			for i := range uint64(100) {
				a.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, i)})
				testmember.Within(t, time.Second, func() bool { return len(b.Recorder.Received()) == int(i)+1 })
			}
		})
	})
}

// TestAppendWindowExpiresAmongHeartbeats: on the message stream, whose receiver drops appends that find no room, the
// heartbeats of raft that are written meanwhile are no sign that appends arrive.
func TestAppendWindowExpiresAmongHeartbeats(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) { tr.SendQueueMessages = crowdedQueue })
		a.AddPeer(2, testmember.SilentHost(n, 2))
		testmember.ReadArrivals(t, testmember.DialStream(t, n.Host("m2").DialContext, a, "message", 2))
		testmember.Within(t, time.Second, func() bool { return testmember.LaneOf(a, 2, "message").Up })
		n.Link("m1", "m2").SetBandwidth(crowdedEntry)
		before := a.Recorder.Unreachables(2)
		for i := range uint64(20) {
			a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, i, make([]byte, crowdedEntry))})
		}
		testmember.Within(t, 10*time.Second, func() bool { return a.Recorder.Unreachables(2) == before+1 })
		testmember.Within(t, 10*time.Second, func() bool { return testmember.LaneOf(a, 2, "message").Queued == 0 })
		// Raft probes with each heartbeat, and gets no answer.
		for start := time.Now(); time.Since(start) < 2*testmember.ReadTimeout; time.Sleep(100 * time.Millisecond) {
			a.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1), testmember.MsgApp(2, 1, 0, make([]byte, crowdedEntry))})
		}
		require.Greater(t, a.Recorder.Unreachables(2), before+1)
	})
}
