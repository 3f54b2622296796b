package delivery_test

import (
	"bytes"
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

func TestLaneChoice(t *testing.T) {
	up := map[string][]string{"both": {"message", "msgapp"}, "message": {"message"}, "msgapp": {"msgapp"}, "none": nil}
	tests := []struct {
		typ  raftpb.MessageType
		want map[string]string // by streams that are up
	}{
		{raftpb.MsgApp, map[string]string{"both": "msgapp", "message": "message", "msgapp": "msgapp", "none": "pipeline"}},
		{raftpb.MsgSnap, map[string]string{"both": "pipeline", "message": "pipeline", "msgapp": "pipeline", "none": "pipeline"}},
		{raftpb.MsgHeartbeat, map[string]string{"both": "message", "message": "message", "msgapp": "pipeline", "none": "pipeline"}},
		{raftpb.MsgProp, map[string]string{"both": "message", "message": "message", "msgapp": "pipeline", "none": "pipeline"}},
		{raftpb.MsgVote, map[string]string{"both": "message", "message": "message", "msgapp": "pipeline", "none": "pipeline"}},
		{raftpb.MsgAppResp, map[string]string{"both": "message", "message": "message", "msgapp": "pipeline", "none": "pipeline"}},
		{raftpb.MsgReadIndex, map[string]string{"both": "message", "message": "message", "msgapp": "pipeline", "none": "pipeline"}},
	}
	for state, streams := range up {
		t.Run(state, func(t *testing.T) {
			a, b := testmember.Start(t, 1, nil), testmember.Start(t, 2, nil)
			a.AddPeer(2, []string{b.URL}) // b does not know a, so the streams are those of the test
			for _, kind := range streams {
				testmember.DialStream(t, testmember.DialLoopback, a, kind, 2)
				testmember.Eventually(t, func() bool { return testmember.LaneOf(a, 2, kind).Up })
			}
			for _, tt := range tests {
				before := testmember.LaneOf(a, 2, tt.want[state]).Messages
				a.Send([]*raftpb.Message{testmember.Message(tt.typ, 2)})
				testmember.Eventually(t, func() bool { return testmember.LaneOf(a, 2, tt.want[state]).Messages == before+1 })
			}
			var total uint64
			for _, name := range []string{"message", "msgapp", "pipeline"} {
				total += testmember.LaneOf(a, 2, name).Messages
				require.Zero(t, testmember.LaneOf(a, 2, name).Dropped)
			}
			require.EqualValues(t, len(tests), total)
			testmember.Eventually(t, func() bool { return len(a.Recorder.SnapshotReports()) == 1 })
			require.Equal(t, raft.SnapshotFinish, a.Recorder.SnapshotReports()[0])
		})
	}
}

func TestFailedPostIsReported(t *testing.T) {
	a := testmember.Start(t, 1, nil)
	a.AddPeer(2, []string{testmember.RefusingURL})
	a.Send([]*raftpb.Message{testmember.Message(raftpb.MsgVote, 2)})
	testmember.Eventually(t, func() bool { return a.Recorder.Unreachables(2) > 0 })
	require.EqualValues(t, 1, testmember.LaneOf(a, 2, "pipeline").Dropped)
	require.Empty(t, a.Recorder.SnapshotReports())

	a.Send([]*raftpb.Message{testmember.Message(raftpb.MsgSnap, 2)})
	testmember.Eventually(t, func() bool { return len(a.Recorder.SnapshotReports()) == 1 })
	require.Equal(t, raft.SnapshotFailure, a.Recorder.SnapshotReports()[0])
	testmember.Eventually(t, func() bool { return a.Recorder.Unreachables(2) > 1 })
}

func TestMessagesToNobodyAreIgnored(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a, b := testmember.StartSimulated(t, n, 1, nil), testmember.StartSimulated(t, n, 2, nil)
		testmember.Connect(t, a, b)
		a.Send(nil)
		a.Send([]*raftpb.Message{testmember.Message(raftpb.MsgApp, 0), testmember.Message(raftpb.MsgSnap, 99), testmember.Heartbeat(2, 1, 7), {}})
		testmember.Within(t, time.Second, func() bool { return len(b.Recorder.Received()) == 1 })
		testmember.Always(t, time.Second, func() bool {
			return len(b.Recorder.Received()) == 1 && a.Recorder.Unreachables(99)+a.Recorder.Unreachables(0) == 0
		})
		require.Empty(t, a.Recorder.SnapshotReports())
	})
}

// TestOrderOfConcurrentSenders: each sender's messages keep their order in each
// lane. Their appends are of several groups, as their Context says: what one group sends twice
// in a row is sent once.
func TestOrderOfConcurrentSenders(t *testing.T) {
	a, b := testmember.Start(t, 1, nil), testmember.Start(t, 2, nil)
	testmember.Connect(t, a, b)
	const senders, each = 4, 400
	var wg sync.WaitGroup
	for s := range types.ID(senders) {
		wg.Go(func() {
			for i := range uint64(each) {
				m := testmember.MsgApp(2, 1, i, []byte{byte(s)})
				m.Context = []byte{byte(s)}
				a.Send([]*raftpb.Message{m, testmember.Heartbeat(2, s+1, i)})
			}
		})
	}
	wg.Wait()
	testmember.Eventually(t, func() bool { return len(b.Recorder.Received()) == 2*senders*each })
	var apps, beats [senders]uint64 // next of each sender
	for _, m := range b.Recorder.Received() {
		next := &beats[(m.GetFrom()-1)%senders]
		if m.GetType() == raftpb.MsgApp {
			next = &apps[m.Entries[0].Data[0]]
		}
		require.Equal(t, *next, m.GetCommit())
		*next++
	}
}

// chanLock is a mutex that a bubble sees its goroutines wait for.
type chanLock chan struct{}

func (l chanLock) Lock()   { l <- struct{}{} }
func (l chanLock) Unlock() { <-l }

// lockedRaft takes a lock in every callback, as an application that holds the
// same lock while it calls Send.
type lockedRaft struct {
	testmember.Recorder
	lock chanLock
}

func (r *lockedRaft) Process(ctx context.Context, m *raftpb.Message) error {
	r.lock.Lock()
	defer r.lock.Unlock()
	return r.Recorder.Process(ctx, m)
}

func (r *lockedRaft) ReportUnreachable(id uint64) {
	r.lock.Lock()
	defer r.lock.Unlock()
	r.Recorder.ReportUnreachable(id)
}

func (r *lockedRaft) ReportSnapshot(id uint64, s raft.SnapshotStatus) {
	r.lock.Lock()
	defer r.lock.Unlock()
	r.Recorder.ReportSnapshot(id, s)
}

func TestSendWithFullQueuesUnderTheLockOfCallbacks(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		locked := &lockedRaft{lock: make(chanLock, 1)}
		a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) {
			tr.Raft, tr.SendQueueMessages = locked, 10
		})
		a.AddPeer(2, testmember.SilentHost(n, 2))
		a.AddRemote(3, testmember.SilentHost(n, 3))
		n.Link("m1", "m2").Cut()
		n.Link("m1", "m3").Cut()
		testmember.DialStream(t, n.Host("m9").DialContext, a, "msgapp", 2) // is not read
		testmember.DialStream(t, n.Host("m9").DialContext, a, "message", 2)
		testmember.WaitStreams(t, a, 2)

		const each = 200
		locked.lock.Lock()
		testmember.Soon(t, func() {
			for i := range uint64(each) {
				a.Send([]*raftpb.Message{
					testmember.MsgApp(2, 1, i, make([]byte, 10<<10)), testmember.Heartbeat(2, 1, i),
					{Type: raftpb.MsgProp.Enum(), To: new(uint64(2)), Entries: []*raftpb.Entry{{Data: make([]byte, 10<<10)}}},
					testmember.Message(raftpb.MsgSnap, 2), testmember.Message(raftpb.MsgVote, 3),
				})
			}
		})
		for _, name := range []string{"msgapp", "message", "pipeline"} {
			ln := testmember.LaneOf(a, 2, name)
			require.NotZero(t, ln.Dropped, name)
			require.LessOrEqual(t, ln.Queued, 64, name)
		}
		require.Zero(t, locked.Unreachables(2), "the lock is held")
		locked.lock.Unlock()
		synctest.Wait()
		require.NotZero(t, locked.Unreachables(2))
		require.NotZero(t, locked.Unreachables(3))
		require.Less(t, locked.Unreachables(2), each, "one report for many messages")
		require.Len(t, locked.SnapshotReports(), int(testmember.LaneOf(a, 2, "pipeline").Dropped))
		testmember.Within(t, 2*time.Minute, func() bool { return len(locked.SnapshotReports()) == each })
	})
}

func TestMessageOverTheByteLimit(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		small := func(tr *rafthttp.Transport) { tr.SendQueueBytes, tr.ReceiveQueueBytes = 1000, 1000 }
		a, b := testmember.StartSimulated(t, n, 1, small), testmember.StartSimulated(t, n, 2, small)
		testmember.Connect(t, a, b)
		data := bytes.Repeat([]byte("large"), 200<<10)
		for i := range uint64(3) {
			a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, i, data)})
			testmember.Within(t, time.Second, func() bool { return len(b.Recorder.Received()) == int(i)+1 })
			require.Equal(t, data, b.Recorder.Received()[i].Entries[0].Data)
			testmember.Within(t, time.Second, func() bool { return testmember.LaneOf(a, 2, "msgapp").Queued == 0 })
		}
		require.Zero(t, a.Recorder.Unreachables(2))

		n.Link("m1", "m2").Cut() // so that the next one stays in the lane
		a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, 3, data)})
		require.Equal(t, 1, testmember.LaneOf(a, 2, "msgapp").Queued)
		require.Greater(t, testmember.LaneOf(a, 2, "msgapp").QueuedBytes, int64(len(data)))
		a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, 4, nil)})
		require.EqualValues(t, 1, testmember.LaneOf(a, 2, "msgapp").Dropped)
		testmember.Within(t, 2*testmember.WriteTimeout, func() bool { return a.Recorder.Unreachables(2) == 1 }) // with the stream
	})
}

// TestQueueMakesRoomWhileItIsWritten: what was written makes room, although its
// writer has more in its hands.
func TestQueueMakesRoomWhileItIsWritten(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) { tr.SendQueueMessages = 3 })
		b := testmember.StartSimulated(t, n, 2, nil)
		testmember.Connect(t, a, b)
		const size = 4 << 20
		n.Link("m1", "m2").SetBandwidth(size) // one message a second
		data := make([]byte, size)
		a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, 1, data), testmember.MsgApp(2, 1, 2, data), testmember.MsgApp(2, 1, 3, data)})
		testmember.Within(t, 2*time.Second, func() bool { return testmember.LaneOf(a, 2, "msgapp").Queued == 2 })
		a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, 4, data)})
		testmember.Within(t, 10*time.Second, func() bool { return len(b.Recorder.Received()) == 4 })
		require.Zero(t, testmember.LaneOf(a, 2, "msgapp").Dropped)
	})
}

// TestBlockedProcessHoldsUpOnlyItsLane: while Process blocks on appends and
// proposals, heartbeats arrive without delay.
func TestBlockedProcessHoldsUpOnlyItsLane(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a := testmember.StartSimulated(t, n, 1, nil)
		b := testmember.StartSimulated(t, n, 2, func(tr *rafthttp.Transport) { tr.ReceiveQueueMessages = 8 })
		release := make(chan struct{})
		b.Recorder.OnProcess = func(ctx context.Context, m *raftpb.Message) error {
			if typ := m.GetType(); typ == raftpb.MsgApp || typ == raftpb.MsgProp {
				select {
				case <-release:
				case <-ctx.Done():
				}
			}
			b.Recorder.Keep(m)
			return nil
		}
		testmember.Connect(t, a, b)
		since := a.ActiveSince(2)
		const appends = 20
		for i := range uint64(appends) {
			a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, i, nil), testmember.Message(raftpb.MsgProp, 2)})
		}
		for i := range uint64(40) {
			sent := time.Now()
			a.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, i)})
			testmember.Within(t, time.Second, func() bool { return len(b.Recorder.Received()) == int(i)+1 })
			require.LessOrEqual(t, time.Since(sent), time.Millisecond, "heartbeat %d", i)
			require.EqualValues(t, appends-8, testmember.LaneOf(b, 1, "proposal").Dropped, "proposals are dropped at once")
			require.Zero(t, testmember.LaneOf(b, 1, "append").Dropped, "appends push back")
			time.Sleep(100 * time.Millisecond)
		}
		testmember.Always(t, 4*testmember.ReadTimeout, func() bool { return testmember.LaneOf(a, 2, "message").Up })
		dropped := testmember.LaneOf(b, 1, "append").Dropped // but for what was still on its way
		require.NotZero(t, dropped, "after the read timeout")
		require.LessOrEqual(t, dropped, uint64(appends-8))
		require.Equal(t, since, a.ActiveSince(2))

		close(release)
		testmember.Within(t, time.Second, func() bool { return len(b.Recorder.Received()) == 40+8+8 })
		testmember.WaitStreams(t, a, 2)
		a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, 99, nil)})
		testmember.Within(t, time.Second, func() bool { return len(b.Recorder.Received()) == 40+8+8+1 })
	})
}

// TestPushBackLosesNothing: a Process that is slow, but not too slow, gets all.
func TestPushBackLosesNothing(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a := testmember.StartSimulated(t, n, 1, nil)
		b := testmember.StartSimulated(t, n, 2, func(tr *rafthttp.Transport) { tr.ReceiveQueueMessages = 2 })
		b.Recorder.OnProcess = func(_ context.Context, m *raftpb.Message) error {
			time.Sleep(testmember.ReadTimeout / 400)
			b.Recorder.Keep(m)
			return nil
		}
		testmember.Connect(t, a, b)
		const appends = 300
		for i := range uint64(appends) {
			a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, i, make([]byte, 5000))})
		}
		testmember.Within(t, time.Minute, func() bool { return len(b.Recorder.Received()) == appends })
		for i, m := range b.Recorder.Received() {
			require.EqualValues(t, i, m.GetIndex())
		}
		require.Zero(t, testmember.LaneOf(b, 1, "append").Dropped)
		require.Zero(t, a.Recorder.Unreachables(2))
	})
}

// TestDropsAtTheEndOfAPeer: what a reader holds then, waiting for room, is not said
// to be lost to a full queue.
func TestDropsAtTheEndOfAPeer(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		const appends, room = 20, 2
		var drops [2]atomic.Int64 // for the end, and for other reasons
		a := testmember.StartSimulated(t, n, 1, nil)
		b := testmember.StartSimulated(t, n, 2, func(tr *rafthttp.Transport) {
			tr.ReceiveQueueMessages = room
			tr.Observer = &rafthttp.Observer{Dropped: func(_ types.ID, lane string, n int, cause error) {
				if rafthttp.DropReasonOf(cause) == rafthttp.DropEnded {
					drops[0].Add(int64(n))
				} else {
					drops[1].Add(int64(n))
				}
			}}
		})
		b.Recorder.OnProcess = func(ctx context.Context, _ *raftpb.Message) error {
			<-ctx.Done()
			return nil
		}
		testmember.Connect(t, a, b)
		for i := range uint64(appends) {
			a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, i, nil)})
		}
		time.Sleep(testmember.ReadTimeout / 4) // it waits twice as long for room
		require.Zero(t, drops[0].Load()+drops[1].Load())
		b.RemovePeer(1)
		time.Sleep(time.Second)
		require.Zero(t, drops[1].Load())
		require.GreaterOrEqual(t, drops[0].Load(), int64(1))
	})
}

func TestContextOfProcessEndsWithThePeer(t *testing.T) {
	ends := map[string]struct {
		end   func(*testmember.Member)
		cause error
	}{
		"RemovePeer":     {func(m *testmember.Member) { m.RemovePeer(1) }, rafthttp.ErrPeerRemoved},
		"RemoveAllPeers": {func(m *testmember.Member) { m.RemoveAllPeers() }, rafthttp.ErrPeerRemoved},
		"Stop":           {func(m *testmember.Member) { m.Stop() }, rafthttp.ErrStopped},
	}
	for name, tt := range ends {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				a, b := testmember.StartSimulated(t, n, 1, nil), testmember.StartSimulated(t, n, 2, nil)
				var begun atomic.Int32
				causes := make(chan error, 10)
				b.Recorder.OnProcess = func(ctx context.Context, _ *raftpb.Message) error {
					begun.Add(1)
					<-ctx.Done()
					causes <- context.Cause(ctx)
					return ctx.Err()
				}
				testmember.Connect(t, a, b)
				a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, 1, nil), testmember.Message(raftpb.MsgProp, 2), testmember.Heartbeat(2, 1, 1), testmember.Heartbeat(2, 1, 2)})
				testmember.Within(t, time.Second, func() bool { return begun.Load() == 3 })
				testmember.Soon(t, func() { tt.end(b) })
				testmember.Within(t, time.Second, func() bool { return len(causes) == 3 })
				for range 3 {
					require.ErrorIs(t, <-causes, tt.cause)
				}
				require.EqualValues(t, 3, begun.Load(), "what was queued is dropped")
			})
		})
	}
}
