package delivery_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

func queued(m *testmember.Member) (bytes int64, messages int) {
	for _, p := range m.Status().Peers {
		for _, l := range p.Lanes {
			bytes += l.QueuedBytes
			messages += l.Queued
		}
	}
	return bytes, messages
}

// TestMemoryWithBlockedPeers: eight peers that read nothing, and appends of 1 MiB
// to them, take what MaxQueuedBytes says, and leave room for heartbeats.
func TestMemoryWithBlockedPeers(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		const peers, limit = 8, 64 * testmember.MiB
		a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) { tr.MaxQueuedBytes = limit })
		for id := types.ID(2); id < 2+peers; id++ {
			a.AddPeer(id, testmember.SilentHost(n, id))
			testmember.DialStream(t, n.Host(testmember.HostOf(id)).DialContext, a, "msgapp", id)
			testmember.DialStream(t, n.Host(testmember.HostOf(id)).DialContext, a, "message", id)
		}
		synctest.Wait()
		before := testmember.HeapBytes()
		// Within the write timeout: after that the streams are lost, and what they hold.
		for i := range uint64(40) {
			for id := types.ID(2); id < 2+peers; id++ {
				a.Send([]*raftpb.Message{testmember.MsgApp(id, 1, i, make([]byte, testmember.MiB))})
			}
			if i%8 == 7 {
				synctest.Wait()
				require.Less(t, testmember.HeapBytes()-before, int64(limit+64*testmember.MiB))
			}
		}
		bytes, _ := queued(a)
		require.Greater(t, bytes, int64(limit/2), "the test should fill it")
		require.LessOrEqual(t, bytes, int64(limit))
		require.LessOrEqual(t, bytes, a.Status().QueuedBytes)
		require.LessOrEqual(t, a.Status().QueuedBytes, int64(limit))

		for id := types.ID(2); id < 2+peers; id++ {
			dropped := testmember.LaneOf(a, id, "message").Dropped
			a.Send([]*raftpb.Message{testmember.Heartbeat(id, 1, 1), {Type: raftpb.MsgProp.Enum(), To: new(uint64(id)), Entries: []*raftpb.Entry{{Data: make([]byte, limit/4)}}}})
			synctest.Wait()
			require.EqualValues(t, 1, testmember.LaneOf(a, id, "message").Messages, "the heartbeat, not the proposal")
			require.Equal(t, dropped+1, testmember.LaneOf(a, id, "message").Dropped)
		}
		time.Sleep(time.Minute)
		require.Zero(t, a.Status().QueuedBytes, "all is given back")
	})
}

// TestMemoryWithABlockedProcess is the other direction: what eight peers send to a
// member whose Process does not return.
func TestMemoryWithABlockedProcess(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		const peers, limit, own = 8, 32 * testmember.MiB, 4 * testmember.MiB
		release := make(chan struct{})
		var processed atomic.Int64
		a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) {
			tr.MaxQueuedBytes = limit
			tr.Raft.(*testmember.Recorder).OnProcess = func(ctx context.Context, m *raftpb.Message) error {
				select {
				case <-release:
				case <-ctx.Done():
				}
				if m.GetType() == raftpb.MsgApp {
					processed.Add(1)
				}
				return nil
			}
		})
		var senders []*testmember.Member
		for id := types.ID(2); id < 2+peers; id++ {
			b := testmember.StartSimulated(t, n, id, func(tr *rafthttp.Transport) { tr.MaxQueuedBytes = own })
			senders = append(senders, b)
			b.AddPeer(1, []string{a.URL})
			a.AddPeer(id, []string{b.URL})
		}
		time.Sleep(time.Second)
		before := testmember.HeapBytes()
		for i := range uint64(60) {
			for _, b := range senders {
				b.Send([]*raftpb.Message{testmember.MsgApp(1, b.ID, i, make([]byte, testmember.MiB))})
			}
			time.Sleep(10 * time.Millisecond)
			if i%12 == 11 {
				require.Less(t, testmember.HeapBytes()-before, int64(limit+peers*own+64*testmember.MiB))
			}
		}
		bytes, _ := queued(a)
		require.Greater(t, bytes, int64(limit/2), "the test should fill it")
		require.LessOrEqual(t, bytes, int64(limit))
		close(release)
		time.Sleep(time.Minute)
		var sent, dropped uint64
		for _, b := range senders {
			sent += testmember.LaneOf(b, 1, "msgapp").Messages
			dropped += testmember.LaneOf(a, b.ID, "append").Dropped
		}
		require.Equal(t, sent, uint64(processed.Load())+dropped, "each is processed or counted")
		require.NotZero(t, processed.Load())
		require.Zero(t, a.Status().QueuedBytes)
	})
}

// TestIdleLanesTakeNothing: many queues with one message each have what these take, and
// next to nothing in advance.
func TestIdleLanesTakeNothing(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		const peers, limit = 150, 64 * testmember.MiB
		a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) { tr.MaxQueuedBytes = limit })
		for id := types.ID(2); id < 2+peers; id++ {
			a.AddPeer(id, testmember.SilentHost(n, id))
			n.Link("m1", testmember.HostOf(id)).Cut() // so that posts wait
		}
		send := func(ms ...func(id types.ID) *raftpb.Message) {
			for id := types.ID(2); id < 2+peers; id++ {
				for _, m := range ms {
					a.Send([]*raftpb.Message{m(id)})
				}
			}
			synctest.Wait()
		}
		beat := func(id types.ID) *raftpb.Message { return testmember.Heartbeat(id, 1, 1) }
		send(beat)
		bytes, messages := queued(a)
		require.Equal(t, peers, messages)
		require.LessOrEqual(t, a.Status().QueuedBytes, bytes+2*peers*(4<<10))

		data := make([]byte, 300<<10)
		send(func(id types.ID) *raftpb.Message { return testmember.MsgApp(id, 1, 1, data) }, beat)
		for _, p := range a.Status().Peers {
			require.Zero(t, p.SendFailures)
		}
		require.GreaterOrEqual(t, a.Status().QueuedBytes, int64(peers*len(data)))
	})
}

// TestBlockedPeersLeaveRoom: peers that read nothing do not take what others need.
func TestBlockedPeersLeaveRoom(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		const blocked, limit, size = 3, 64 * testmember.MiB, 64 << 10
		a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) { tr.MaxQueuedBytes = limit })
		b := testmember.StartSimulated(t, n, 9, nil)
		testmember.Connect(t, a, b)
		data := make([]byte, size)
		for id := types.ID(2); id < 2+blocked; id++ {
			a.AddPeer(id, testmember.SilentHost(n, id))
			testmember.DialStream(t, n.Host(testmember.HostOf(id)).DialContext, a, "msgapp", id)
			synctest.Wait() // the writer has it
			n.Link("m1", testmember.HostOf(id)).Cut()
			for i := range uint64(limit / size) {
				a.Send([]*raftpb.Message{testmember.MsgApp(id, 1, i, data)})
			}
			require.NotZero(t, testmember.LaneOf(a, id, "msgapp").Dropped)
		}
		for i := range uint64(1000) { // all at once every millisecond: 8 KiB to 64 MiB a second
			a.Send([]*raftpb.Message{testmember.MsgApp(9, 1, i, data), testmember.Heartbeat(9, 1, i)})
			time.Sleep(time.Millisecond)
		}
		require.Zero(t, testmember.LaneOf(a, 9, "msgapp").Dropped)
		require.Zero(t, testmember.LaneOf(a, 9, "message").Dropped)
		require.LessOrEqual(t, a.Status().QueuedBytes, int64(limit))
	})
}

// A message larger than all that may be queued goes when nothing else waits.
func TestMessageOverMaxQueuedBytes(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) { tr.MaxQueuedBytes = 100_000 })
		b := testmember.StartSimulated(t, n, 2, func(tr *rafthttp.Transport) { tr.MaxQueuedBytes = 100_000 })
		testmember.Connect(t, a, b)
		time.Sleep(10 * time.Second)
		a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, 1, make([]byte, testmember.MiB)), testmember.MsgApp(2, 1, 2, make([]byte, testmember.MiB)), testmember.Heartbeat(2, 1, 1)})
		time.Sleep(10 * time.Second)
		require.Len(t, b.Recorder.Received(), 2, "the large one, and the heartbeat")
		require.EqualValues(t, 1, testmember.LaneOf(a, 2, "msgapp").Dropped)
	})
}

// TestMessageOverMaxQueuedBytesOnASlowLine: while it goes to one peer, for as long as
// that takes, heartbeats to the others are not held up.
func TestMessageOverMaxQueuedBytesOnASlowLine(t *testing.T) {
	for _, size := range []int{15 * testmember.MiB / 4, 4 * testmember.MiB, 40 * testmember.MiB} { // above 7/8 of the bound, and above it
		testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
			a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) { tr.MaxQueuedBytes = 4 * testmember.MiB })
			b, c := testmember.StartSimulated(t, n, 2, nil), testmember.StartSimulated(t, n, 3, nil)
			testmember.Connect(t, a, b)
			testmember.Connect(t, a, c)
			n.Link("m1", "m2").SetBandwidth(testmember.MiB)
			a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, 0, make([]byte, size))})
			for range 30 {
				a.Send([]*raftpb.Message{testmember.Heartbeat(3, 1, 1)})
				time.Sleep(100 * time.Millisecond)
			}
			require.Empty(t, b.Recorder.Received())
			require.Len(t, c.Recorder.Received(), 30)
			require.Zero(t, testmember.LaneOf(a, 3, "message").Dropped)
			time.Sleep(time.Minute)
			require.Len(t, b.Recorder.Received(), 1)
			_, queued := queued(a)
			require.Zero(t, queued)
		})
	}
}

// TestMessageOverMaxQueuedBytesInTraffic: it goes as well while other messages come
// and go, at any time when none of them is queued.
func TestMessageOverMaxQueuedBytesInTraffic(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		small := func(tr *rafthttp.Transport) { tr.MaxQueuedBytes = 100_000 }
		a, b := testmember.StartSimulated(t, n, 1, small), testmember.StartSimulated(t, n, 2, small)
		testmember.Connect(t, a, b)
		const large = 10
		for i := range uint64(large) {
			for range 10 {
				a.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, i)})
				b.Send([]*raftpb.Message{testmember.Heartbeat(1, 2, i)})
				time.Sleep(10 * time.Millisecond)
			}
			synctest.Wait()
			_, queuedByA := queued(a)
			require.Zero(t, queuedByA)
			a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, i, make([]byte, testmember.MiB))})
			time.Sleep(10 * time.Millisecond)
		}
		require.EqualValues(t, large, testmember.LaneOf(a, 2, "msgapp").Messages)
		require.EqualValues(t, large, testmember.LaneOf(b, 1, "append").Messages)
	})
}
