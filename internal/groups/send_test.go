package groups

import (
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/fair"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
)

var roomy = queue.Limits{Messages: 1 << 20, Bytes: 1 << 40}

// messageTo returns a message of the local replica.
func messageTo(to uint64, typ raftpb.MessageType) *raftpb.Message {
	return &raftpb.Message{Type: typ.Enum(), From: new(uint64(1)), To: new(to), Term: new(uint64(1)), Commit: new(uint64(1))}
}

// taken empties queues, and returns their messages in order.
func taken(all ...*fair.SendQueue) (msgs []*raftpb.Message) {
	for _, q := range all {
		for _, it := range q.Empty() {
			msgs = append(msgs, it.Msg)
		}
	}
	return msgs
}

// TestSendOfManyWays: each message of a call gets into its queue, in order, whatever is before it and after it.
func TestSendOfManyWays(t *testing.T) {
	here, there := newTestNode(t, roomy, nil), newTestNode(t, roomy, nil)
	g := newTestReplica(here, nil).group()
	other := newReplica(g, 3, there)
	there.add(other)
	g.replicas.put(other, nil)
	marked := appendAfter(5)
	marked.Context = []byte("it is not tracked")
	kinds := []func(i uint64) *raftpb.Message{
		appendAfter,
		func(i uint64) *raftpb.Message {
			m := appendAfter(i)
			m.To = new(uint64(3))
			return m
		},
		func(uint64) *raftpb.Message { return marked },
		func(uint64) *raftpb.Message { return messageTo(2, raftpb.MsgHeartbeat) },
		func(uint64) *raftpb.Message { return messageTo(3, raftpb.MsgHeartbeatResp) },
		func(uint64) *raftpb.Message { return messageTo(2, raftpb.MsgProp) },
		func(uint64) *raftpb.Message { return messageTo(2, raftpb.MsgSnap) },
		func(uint64) *raftpb.Message { return messageTo(1, raftpb.MsgHeartbeat) },  // to the local one
		func(uint64) *raftpb.Message { return messageTo(0, raftpb.MsgHeartbeat) },  // ignored
		func(uint64) *raftpb.Message { return messageTo(99, raftpb.MsgHeartbeat) }, // the same
	}
	var msgs []*raftpb.Message
	var want [2][queue.Kinds][]*raftpb.Message // by node and kind, without MsgSnap
	var snaps []*raftpb.Message
	index, local := [2]uint64{}, 0
	for range 300 {
		which := rand.IntN(len(kinds))
		for range 1 + rand.IntN(5) {
			m := kinds[which](index[which&1])
			msgs = append(msgs, m)
			switch to, k := m.GetTo(), queue.KindOf(m.GetType()); {
			case to == 1:
				local++
			case m.GetType() == raftpb.MsgSnap:
				snaps = append(snaps, m)
			case to == 2 || to == 3:
				want[to-2][k] = append(want[to-2][k], m)
			}
			if which < 2 {
				index[which]++
			}
		}
	}
	g.Send(msgs)
	for i, n := range []*node{here, there} {
		require.Equal(t, want[i][queue.Append], taken(n.writers[appends].Queue))
		require.Equal(t, append(want[i][queue.Control], want[i][queue.Proposal]...), taken(n.writers[messages].Queue))
	}
	require.Equal(t, snaps, taken(here.posts.queues[queue.Append]))
	require.EqualValues(t, local, g.drops().local.Load())
	require.Zero(t, g.groups.withholding.Load())
}

// TestSendTakesOneLock: a worker gets the appends of a call together.
func TestSendTakesOneLock(t *testing.T) {
	n := newTestNode(t, roomy, nil)
	r, q := newTestReplica(n, nil), n.writers[appends].Queue
	var msgs []*raftpb.Message
	for i := range uint64(queue.RunMessages) {
		msgs = append(msgs, appendAfter(i))
	}
	require.Equal(t, len(msgs), r.send(append(msgs, appendAfter(queue.RunMessages))), "a worker waits meanwhile")
	require.Equal(t, msgs, taken(q))
	require.Equal(t, 1, r.send([]*raftpb.Message{appendAfter(0), messageTo(2, raftpb.MsgProp)}))
	require.Zero(t, testing.AllocsPerRun(10, sendAppends(t, 3, 4, 10)))
}

// TestSendWithholdsTheRest of a call that does not fit: it is counted, and raft is told once when what fit is written.
func TestSendWithholdsTheRest(t *testing.T) {
	n := newTestNode(t, queue.Limits{Messages: 6, Bytes: 1 << 20}, nil)
	r, q := newTestReplica(n, nil), n.writers[appends].Queue
	var msgs []*raftpb.Message
	for i := range uint64(9) {
		msgs = append(msgs, appendAfter(i))
	}
	r.group().Send(msgs)
	require.EqualValues(t, 1, n.groups.withholding.Load())
	require.False(t, r.owed.Load())
	items, _ := q.Take(nil, 100, 0)
	require.Less(t, len(items), len(msgs))
	require.EqualValues(t, len(msgs)-len(items), q.Dropped()[queue.DropQueueFull])
	for i, it := range items {
		require.Same(t, msgs[i], it.Msg)
	}
	r.owed.Store(true) // so that nobody is told
	q.Release(items)
	n.groups.appendsWritten(q, items)
	later, fits := msgs[len(items)+1], msgs[len(items)]
	r.group().Send([]*raftpb.Message{later, fits, later}) // as soon as one continues where the last one ended, others do
	require.Equal(t, []*raftpb.Message{fits, later}, taken(q))
	require.EqualValues(t, len(msgs)-len(items)+1, q.Dropped()[queue.DropQueueFull])
	require.Zero(t, n.groups.withholding.Load())
}

// TestSendWhileTheQueueIsShut: each message of a call is in one queue, or was lost with the stream, and they leave each queue in order.
func TestSendWhileTheQueueIsShut(t *testing.T) {
	n := newTestNode(t, roomy, nil)
	r, q := newTestReplica(n, nil), n.writers[appends].Queue
	const batch, calls = 50, 400
	var lost []*raftpb.Message
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			for _, it := range q.Shut() {
				lost = append(lost, it.Msg)
			}
			n.forgetAppends()
			q.Open()
		}
	})
	for c := range uint64(calls) {
		var msgs []*raftpb.Message
		for i := range uint64(batch) {
			msgs = append(msgs, appendAfter(c*batch+i))
		}
		r.group().Send(msgs)
	}
	close(stop)
	wg.Wait()
	streamed, posted := append(lost, taken(q)...), taken(n.posts.queues[queue.Append])
	seen := map[uint64]bool{}
	for _, some := range [][]*raftpb.Message{streamed, posted} {
		for i, m := range some {
			require.False(t, seen[m.GetIndex()])
			seen[m.GetIndex()] = true
			require.True(t, i == 0 || some[i-1].GetIndex() < m.GetIndex())
		}
	}
	require.Len(t, seen, batch*calls)
}

// TestSendWhileTheReplicaIsRemoved: the appends of a call are dropped with the replica, or queued behind it, and counted once.
func TestSendWhileTheReplicaIsRemoved(t *testing.T) {
	const batch = queue.RunMessages // under one lock
	n := newTestNode(t, roomy, nil)
	q := n.writers[appends].Queue
	for range 2000 {
		r := newTestReplica(n, nil)
		n.users = 2
		before := q.Dropped()[queue.DropEnded]
		var removing sync.WaitGroup
		removing.Go(func() { r.group().Remove(2) })
		var msgs []*raftpb.Message
		for i := range uint64(batch) {
			msgs = append(msgs, appendAfter(i))
		}
		r.send(msgs)
		removing.Wait()
		removed, left := int(q.Dropped()[queue.DropEnded]-before), len(taken(q))
		require.Equal(t, batch, removed+left)
		require.Zero(t, removed*left, "some of them")
		st := q.Status()
		require.Zero(t, st.Queued[queue.Append]+st.Flows[queue.Append])
		require.Zero(t, st.QueuedBytes[queue.Append])
	}
	require.Zero(t, n.groups.withholding.Load())
}
