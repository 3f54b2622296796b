package groups

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/callback"
	"github.com/seed-4d73690b/rafthttp/internal/fair"
	"github.com/seed-4d73690b/rafthttp/internal/member"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
	"github.com/seed-4d73690b/rafthttp/internal/stream"
)

// newTestNode returns a node whose queues are open and have no connection. written, which may be nil, is called after the worker of the
// queue of appends has released some; without it nothing is taken from the queues.
func newTestNode(t testing.TB, limits queue.Limits, written func(n int)) *node {
	gs := New(Config{
		Node:      member.Config{ReadTimeout: time.Second, ReceiveLimits: limits},
		Notifiers: func(callback.Raft) *callback.Registry { return nil },
	})
	var wg sync.WaitGroup
	n := &node{groups: gs, member: &member.Member{}, users: 2} // another group has a replica there
	n.posts = &posts{node: n}
	for k := range n.posts.queues {
		n.posts.queues[k] = fair.NewSendQueue(fair.SendConfig{Limits: limits, Wait: &wg})
		n.posts.queues[k].Open()
	}
	for i := range n.writers {
		c := fair.SendConfig{Limits: limits, Wait: &wg}
		if i == appends && written != nil {
			c.Workers, c.Work = 1, func() { writeAppends(n, written) }
		}
		n.writers[i] = &stream.GroupWriter{Queue: fair.NewSendQueue(c)}
		n.writers[i].Queue.Open()
	}
	for k := range n.shares {
		n.shares[k] = fair.NewShare(limits)
	}
	t.Cleanup(func() {
		for _, w := range n.writers {
			w.Queue.Close()
		}
		wg.Wait()
	})
	return n
}

// closePools ends what New has started, once the groups have ended.
func closePools(gs *Groups) {
	for _, p := range gs.pools {
		p.Close()
	}
	gs.reports.Close()
	gs.wg.Wait()
}

// writeAppends is the worker of the queue of appends.
func writeAppends(n *node, written func(n int)) {
	q := n.writers[appends].Queue
	for items, ok := q.Take(nil, 1, 0); ok; items, ok = q.Take(items, 1, 0) {
		q.Release(items)
		n.groups.appendsWritten(q, items)
		some := len(items)
		clear(items)
		written(some)
	}
}

// newTestReplica returns the replica 2 of a new group, which lives on the node.
func newTestReplica(n *node, raft callback.Raft) *replica {
	g := new(Group)
	g.init(n.groups, 7, 1, App{Raft: raft})
	r := newReplica(g, 2, n)
	n.add(r)
	g.replicas.put(r, nil)
	return r
}

// lone returns a replica of a group, on a node that another group uses, too, and that has no connections. Its queues have
// room for one append.
func lone(t testing.TB, raft callback.Raft) *replica {
	return newTestReplica(newTestNode(t, queue.Limits{Messages: 2, Bytes: 1 << 20}, nil), raft)
}

// appendAfter returns an append with one entry after this index.
func appendAfter(i uint64) *raftpb.Message {
	return &raftpb.Message{
		Type: raftpb.MsgApp.Enum(), From: new(uint64(1)), To: new(uint64(2)), Term: new(uint64(1)), LogTerm: new(uint64(1)), Index: new(i), Commit: new(i),
		Entries: []*raftpb.Entry{{Term: new(uint64(1)), Index: new(i + 1)}},
	}
}

// TestRemovedReplicaWithholdsNothing: a replica that was removed while appends to it were withheld does not count.
func TestRemovedReplicaWithholdsNothing(t *testing.T) {
	r := lone(t, nil)
	n := r.node
	for i := range uint64(5) {
		r.send([]*raftpb.Message{appendAfter(i)})
	}
	require.EqualValues(t, 1, n.groups.withholding.Load())
	r.group().Remove(2)
	require.Zero(t, n.groups.withholding.Load())
	r.send([]*raftpb.Message{appendAfter(8)})
	require.Zero(t, n.groups.withholding.Load(), "of a Send that ran meanwhile")
}

// TestWithheldWhileTheLastIsWritten: raft is told of an append that was withheld, also if the only one before it is written at the same
// time: nothing will be written after it.
func TestWithheldWhileTheLastIsWritten(t *testing.T) {
	var written atomic.Int64
	n := newTestNode(t, queue.Limits{Messages: 2, Bytes: 1 << 20}, func(n int) { written.Add(int64(n)) })
	r := newTestReplica(n, nil)
	r.owed.Store(true) // so that nobody is told
	q, sent, withheld := n.writers[appends].Queue, int64(0), 0
	for range 20_000 {
		for i := range uint64(2) { // there is room for one
			before := q.Dropped()[queue.DropQueueFull]
			r.send([]*raftpb.Message{appendAfter(i)})
			if q.Dropped()[queue.DropQueueFull] == before {
				sent++
			} else {
				withheld++
			}
		}
		for written.Load() < sent {
			runtime.Gosched()
		}
		missed := false
		r.withWindow(func(w *appendWindow, held queue.Held) bool {
			missed = w.Released(held, n.groups.now())
			return w.Reset()
		})
		require.False(t, missed, "nobody was told")
	}
	require.NotZero(t, withheld)
}
