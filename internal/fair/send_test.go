package fair

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
)

// roomy are limits that no test reaches.
var roomy = queue.Limits{Messages: 1 << 20, Bytes: 1 << 40}

// newSendQueue returns an open queue whose only worker is the caller.
func newSendQueue(limits queue.Limits) *SendQueue {
	q := NewSendQueue(SendConfig{Name: "test", Limits: limits, Workers: 1, Wait: new(sync.WaitGroup)})
	q.workers = 1
	q.Open()
	return q
}

func message(t raftpb.MessageType) *raftpb.Message { return &raftpb.Message{Type: t.Enum()} }

// offer offers messages of one size to a flow until one is refused, at most n, and returns how many were accepted, and the
// verdict on the last.
func offer(q *SendQueue, f *Flow, t raftpb.MessageType, size int64, n int) (accepted int, v queue.Verdict) {
	for ; accepted < n; accepted++ {
		if v = q.Offer(f, message(t), size, false); v != queue.Accepted {
			break
		}
	}
	return accepted, v
}

// takeAll takes all messages, one at a time, and returns their groups.
func takeAll(q *SendQueue) (groups []uint64) {
	var items []Item
	for q.queued > 0 {
		items, _ = q.Take(items, 1, 0)
		groups = append(groups, items[0].Flow.Group)
		q.Release(items)
	}
	return groups
}

// TestSizes: ten thousand groups have three flows and three inboxes for each peer.
func TestSizes(t *testing.T) {
	require.LessOrEqual(t, unsafe.Sizeof(Flow{}), uintptr(80))
	require.LessOrEqual(t, unsafe.Sizeof(Inbox{}), uintptr(72))
}

// TestFloodingFlowWaitsForItsTurn: while a flow has large messages queued, those of the others leave within a round, which
// is a quantum of it.
func TestFloodingFlowWaitsForItsTurn(t *testing.T) {
	for _, size := range []int64{quantum / 4, quantum, quantum * 40} {
		q := newSendQueue(roomy)
		flood, others := Flow{Group: 100}, make([]Flow, 50)
		offer(q, &flood, raftpb.MsgApp, size, 100)
		for i := range others {
			offer(q, &others[i], raftpb.MsgApp, 10, 3)
		}
		ahead := int64(0) // bytes of the flood before the last of the others
		for i, left := 0, 3*len(others); left > 0; i++ {
			items, _ := q.Take(nil, 1, 0)
			if items[0].Flow == &flood {
				ahead += items[0].Size
			} else {
				left--
			}
		}
		require.LessOrEqual(t, ahead, int64(quantum))
	}
}

// TestFlowsLeaveByBytes: flows with messages of different sizes get the same part of the connection.
func TestFlowsLeaveByBytes(t *testing.T) {
	q := newSendQueue(roomy)
	sizes := []int64{quantum/10 + 1, quantum/3 + 1, quantum, 5*quantum + 7}
	flows, sent := make([]Flow, len(sizes)), make([]int64, len(sizes))
	for i, size := range sizes {
		flows[i].Group = uint64(i)
		offer(q, &flows[i], raftpb.MsgApp, size, int(1000*quantum/size))
	}
	total := int64(0)
	for total < 2000*quantum { // half of it
		items, _ := q.Take(nil, 7, 3*quantum)
		for _, it := range items {
			sent[it.Flow.Group] += it.Size
			total += it.Size
		}
		q.Release(items)
		for i := range sent {
			require.LessOrEqual(t, sent[i], sent[0]+2*quantum+sizes[i])
			require.LessOrEqual(t, sent[0], sent[i]+2*quantum+sizes[i])
		}
	}
}

// TestManyLargeMessages: a Take passes over a bounded number of flows before it has a message.
func TestManyLargeMessages(t *testing.T) {
	q := newSendQueue(roomy)
	flows := make([]Flow, 3)
	for i := range flows {
		flows[i].Group = uint64(i)
		offer(q, &flows[i], raftpb.MsgApp, quantum*maxPasses*100, 2)
	}
	items, _ := q.Take(nil, 1, 0)
	for i := range flows {
		require.LessOrEqual(t, flows[i].deficit, int64(quantum*(maxPasses/3+2)))
	}
	groups := append([]uint64{items[0].Flow.Group}, takeAll(q)...)
	require.ElementsMatch(t, []uint64{0, 0, 1, 1, 2, 2}, groups)
	require.NotEqual(t, groups[0], groups[1])
}

// TestControlFirst: control messages leave first, then appends and proposals in turn.
func TestControlFirst(t *testing.T) {
	q := newSendQueue(roomy)
	flows := [queue.Kinds]Flow{{Group: 0}, {Group: 1}, {Group: 2}}
	offer(q, &flows[queue.Append], raftpb.MsgApp, 100, 4)
	offer(q, &flows[queue.Proposal], raftpb.MsgProp, 100, 4)
	take := func() (groups []uint64) {
		items, _ := q.Take(nil, 10, 150)
		for _, it := range items {
			groups = append(groups, it.Flow.Group)
		}
		q.Release(items)
		return groups
	}
	require.Equal(t, []uint64{1, 1}, take())
	offer(q, &flows[queue.Control], raftpb.MsgHeartbeat, 100, 5)
	require.Equal(t, []uint64{0, 0, 0, 0, 0}, take(), "these are not limited in bytes")
	require.Equal(t, []uint64{2, 2}, take())
	require.Equal(t, []uint64{1, 1}, take())
	require.Equal(t, []uint64{2, 2}, take())
	require.False(t, q.HasMessages())
}

// TestFloodsLeaveRoom: n flows that flood leave at least 1/(n+1) of each limit to the others, also if the queue is
// not emptied and the budget is the limit, and all of it to the other kinds.
func TestFloodsLeaveRoom(t *testing.T) {
	const places, size = 1200, 1000
	limits := map[string]queue.Limits{
		"messages": {Messages: places, Bytes: 1 << 40},
		"bytes":    {Messages: 1 << 20, Bytes: places * size},
	}
	for name, limits := range limits {
		for _, n := range []int{1, 3, 11} {
			q := newSendQueue(limits)
			flows := make([]Flow, n+1)
			for full := 0; full < n; { // one message each in turn
				full = 0
				for i := range n {
					if _, v := offer(q, &flows[i], raftpb.MsgApp, size, 1); v == queue.Full {
						full++
					}
				}
			}
			for i := range n {
				require.InDelta(t, flows[0].held.units/CoalescedPerPlace, flows[i].held.units/CoalescedPerPlace, 1, "%s %d", name, n)
			}
			require.GreaterOrEqual(t, places-q.queued, places/(n+1)-1, "%s %d", name, n)
			took, _ := q.Take(nil, places, 0) // these count until they are released
			_, v := offer(q, &flows[0], raftpb.MsgApp, size, 1)
			require.Equal(t, queue.Full, v)
			left, _ := offer(q, &flows[n], raftpb.MsgApp, size, places)
			require.Greater(t, left, places/(n+1)/4)
			require.LessOrEqual(t, left, places-len(took)-left, "it leaves as much as it takes")
			q.Release(took)
			_, v = offer(q, &flows[0], raftpb.MsgApp, size, 1)
			require.Equal(t, queue.Accepted, v)
			other, _ := offer(q, new(Flow), raftpb.MsgHeartbeat, size, places)
			require.Equal(t, places/2, other)
		}
	}
}

// TestFloodLeavesMemory: a flow that floods leaves memory to the others of its queue, and to other queues; the last
// eighth is for control messages.
func TestFloodLeavesMemory(t *testing.T) {
	const size, limit = 1 << 10, 8 << 20
	limits := queue.Limits{Messages: 1 << 20, Bytes: 1 << 40, Shared: queue.NewBudget(limit)}
	q, other := newSendQueue(limits), newSendQueue(limits)
	flows := make([]Flow, 3)
	first, v := offer(q, &flows[0], raftpb.MsgApp, size, limit)
	require.Equal(t, queue.OutOfMemory, v)
	require.InDelta(t, limit/size*7/8/4, first, 40) // the queue leaves as much to other queues, and half of that to other flows
	second, _ := offer(q, &flows[1], raftpb.MsgApp, size, limit)
	require.Greater(t, second, limit/size/16)
	third, _ := offer(other, &flows[2], raftpb.MsgApp, size, limit)
	require.Greater(t, third, limit/size/12)
	for range 20 {
		offer(q, new(Flow), raftpb.MsgApp, size, limit)
		offer(other, new(Flow), raftpb.MsgApp, size, limit)
	}
	control, _ := offer(q, new(Flow), raftpb.MsgHeartbeat, size, limit)
	require.Greater(t, control, limit/size/8/4)
	require.LessOrEqual(t, limits.Shared.Used(), int64(limit))
	for _, q := range []*SendQueue{q, other} {
		takeAll(q)
	}
	require.Zero(t, limits.Shared.Used())
}

// TestCoalescedMessagesShareAPlace: the heartbeats of many groups, which go in one frame, do not fill the queue.
func TestCoalescedMessagesShareAPlace(t *testing.T) {
	q := newSendQueue(queue.Limits{Messages: 20, Bytes: 1 << 40})
	flows := make([]Flow, 20*CoalescedPerPlace+1)
	for i := range flows {
		want := queue.Accepted
		if i == len(flows)-1 {
			want = queue.Full
		}
		require.Equal(t, want, q.Offer(&flows[i], message(raftpb.MsgHeartbeat), 100, true))
	}
	require.Equal(t, 20, q.Status().Queued[queue.Control])
	require.Equal(t, 20*CoalescedPerPlace, q.Status().Flows[queue.Control])
	takeAll(q)
	require.Zero(t, q.lanes[queue.Control].held)
}

// TestVerdicts of offers: a message over the limits is accepted while the queue is empty, over that of a message never.
func TestVerdicts(t *testing.T) {
	q := newSendQueue(queue.Limits{Messages: 10, Bytes: 100, MessageBytes: 1000, Shared: queue.NewBudget(50)})
	var a, b Flow
	_, v := offer(q, &a, raftpb.MsgApp, 1001, 1)
	require.Equal(t, queue.TooLarge, v)
	_, v = offer(q, &a, raftpb.MsgApp, 1000, 1)
	require.Equal(t, queue.Accepted, v)
	_, v = offer(q, &b, raftpb.MsgApp, 1, 1)
	require.Equal(t, queue.Full, v)
	require.Len(t, q.Shut(), 1)
	_, v = offer(q, &b, raftpb.MsgApp, 1, 1)
	require.Equal(t, queue.Down, v)
	require.False(t, q.IsOpen())
	q.Open()
	_, v = offer(q, &b, raftpb.MsgApp, 1, 1)
	require.Equal(t, queue.Accepted, v)
	require.Len(t, q.Close(), 1)
	q.Open()
	require.False(t, q.IsOpen())
	require.Zero(t, q.cfg.Limits.Shared.Used())
}

// TestRemoveReturnsTheFlow: what is queued of a group that leaves is returned, and what was taken counts until it is
// released.
func TestRemoveReturnsTheFlow(t *testing.T) {
	q := newSendQueue(roomy)
	flows := []Flow{{Group: 0}, {Group: 1}, {Group: 2}}
	for i := range flows {
		offer(q, &flows[i], raftpb.MsgApp, 10, 3)
	}
	took, _ := q.Take(nil, 1, 0)
	require.Len(t, q.Remove(&flows[0]), 2)
	require.Len(t, q.Remove(&flows[1]), 3)
	require.Empty(t, q.Remove(&flows[1]))
	require.Equal(t, 4, q.Status().Queued[queue.Append])
	q.Release(took)
	require.Equal(t, Flow{Group: 0, kind: uint8(queue.Append)}, flows[0])
	require.Equal(t, []uint64{2, 2, 2}, takeAll(q))
	l := &q.lanes[queue.Append]
	require.Equal(t, lane{account: l.account, ring: l.ring, ahead: l.ahead}, *l)
	require.Zero(t, l.ring.len+l.ring.n)
}

// TestEmptied: a worker sees that the queue was emptied since it took its items.
func TestEmptied(t *testing.T) {
	q := newSendQueue(roomy)
	var f Flow
	offer(q, &f, raftpb.MsgApp, 10, 3)
	items, _ := q.Take(nil, 1, 0)
	require.False(t, q.WasEmptied())
	require.Len(t, q.Empty(), 2)
	require.True(t, q.WasEmptied())
	q.Release(items)
	require.True(t, q.IsOpen())
	q.Done(1, 10, time.Second)
	q.Drop(2, queue.DropPaused)
	st := q.Status()
	require.Equal(t, uint64(1), st.Messages)
	require.Equal(t, uint64(2), st.Dropped[queue.DropPaused])
	require.Equal(t, time.Second, st.BusyTime)
}

// TestSendWorkers exist only while the queue is in use.
func TestSendWorkers(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var wg sync.WaitGroup
		ended := make(chan struct{})
		woken, took := 0, 0
		var q *SendQueue
		q = NewSendQueue(SendConfig{Limits: roomy, Workers: 1, Wait: &wg, Ended: ended, Work: func() {
			var items []Item
			for ok := true; ok; {
				if items, ok = q.Take(items, 10, 0); ok && len(items) == 0 {
					woken++
				}
				took += len(items)
				q.Release(items)
				clear(items)
			}
		}})
		q.Wake()
		wg.Wait()
		require.Equal(t, 1, woken)
		q.Open()
		var f Flow
		offer(q, &f, raftpb.MsgApp, 10, 25)
		synctest.Wait()
		require.Equal(t, 25, took)
		require.Equal(t, 1, q.workers)
		require.False(t, q.AcquireWorker())
		trimmed := 0
		q.TrimIfIdle(func() { trimmed++ })
		require.Zero(t, trimmed, "it was used")
		q.TrimIfIdle(func() { trimmed++ })
		require.Equal(t, 1, trimmed)
		wg.Wait()
		require.Zero(t, q.workers)
		require.Nil(t, q.free.free)
		require.Nil(t, q.lanes[queue.Append].ring.buf)
		require.True(t, q.AcquireWorker())
		offer(q, &f, raftpb.MsgApp, 10, 1)
		synctest.Wait()
		require.Equal(t, 25, took)
		q.ReleaseWorker()
		synctest.Wait()
		require.Equal(t, 26, took)
		q.Close()
		<-ended
		wg.Wait()
	})
}

// TestDetachingTakesAsLongAsThereAreFlows and not messages: Send needs the lock meanwhile. What is returned is in order.
func TestDetachingTakesAsLongAsThereAreFlows(t *testing.T) {
	q := newSendQueue(roomy)
	flows, m := make([]Flow, 10), message(raftpb.MsgHeartbeat)
	const each = 1000
	for i := range int64(each) {
		for k := range flows {
			require.Equal(t, queue.Accepted, q.Offer(&flows[k], m, i+1, true))
		}
	}
	took, _ := q.Take(nil, each, 0)
	q.mu.Lock()
	all := q.detach()
	q.mu.Unlock()
	require.LessOrEqual(t, len(all.lists), len(flows))
	require.Len(t, took, each)
	items := append(took, all.items()...)
	require.Len(t, items, each*len(flows))
	last := map[*Flow]int64{}
	for _, it := range items {
		last[it.Flow]++
		require.Equal(t, last[it.Flow], it.Size)
	}
	require.Equal(t, each, q.held)
	q.Release(took)
	require.Zero(t, q.held)
	require.Zero(t, q.queued)
	require.Zero(t, q.lanes[queue.Control].account.held)
	require.Zero(t, q.free.used)
	for i := range flows {
		require.Equal(t, Flow{}, flows[i])
	}
}

// TestReadsAheadOnce: a Take that passes over flows, since their messages are large, does not read ahead for each of them.
func TestReadsAheadOnce(t *testing.T) {
	q, flows := newSendQueue(roomy), make([]Flow, 2*readAhead)
	for i := range flows {
		offer(q, &flows[i], raftpb.MsgApp, 16*quantum, 2)
	}
	taken, _ := q.Take(nil, 10, 1)
	require.Len(t, taken, 1)
	require.EqualValues(t, min(10, readAhead), q.lanes[queue.Append].ahead)
}
