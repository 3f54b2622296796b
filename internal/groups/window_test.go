package groups

import (
	"sync"
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

// lone returns a replica of a group, on a node that another group uses, too, and that has no connections.
func lone(raft callback.Raft) *replica {
	limits := queue.Limits{Messages: 2, Bytes: 1 << 20}
	gs := New(Config{
		Node:      member.Config{ReadTimeout: time.Second, ReceiveLimits: limits},
		Notifiers: func(callback.Raft) *callback.Registry { return nil },
	})
	var wg sync.WaitGroup
	newQueue := func() *fair.SendQueue {
		q := fair.NewSendQueue(fair.SendConfig{Limits: limits, Work: func() {}, Wait: &wg})
		q.Open()
		return q
	}
	n := &node{groups: gs, member: &member.Member{}, users: 2}
	n.posts = &posts{node: n}
	for k := range n.posts.queues {
		n.posts.queues[k] = newQueue()
	}
	for i := range n.writers {
		n.writers[i] = &stream.GroupWriter{Queue: newQueue()}
	}
	for k := range n.shares {
		n.shares[k] = fair.NewShare(limits)
	}
	g := new(Group)
	g.init(gs, 7, 1, App{Raft: raft})
	r := newReplica(g, 2, n)
	n.add(r)
	g.replicas.put(r, nil)
	return r
}

// TestRemovedReplicaWithholdsNothing: a replica that was removed while appends to it were withheld does not count.
func TestRemovedReplicaWithholdsNothing(t *testing.T) {
	r := lone(nil)
	g, gs := r.group, r.group.groups
	for i := range uint64(5) {
		r.send(&raftpb.Message{
			Type: raftpb.MsgApp.Enum(), From: new(uint64(1)), To: new(uint64(2)), Term: new(uint64(1)), LogTerm: new(uint64(1)), Index: new(i), Commit: new(i),
			Entries: []*raftpb.Entry{{Term: new(uint64(1)), Index: new(i + 1)}},
		})
	}
	require.EqualValues(t, 1, gs.withholding.Load())
	g.Remove(2)
	require.Zero(t, gs.withholding.Load())
	r.send(&raftpb.Message{Type: raftpb.MsgApp.Enum(), From: new(uint64(1)), To: new(uint64(2)), Term: new(uint64(1)), Entries: []*raftpb.Entry{{Index: new(uint64(9))}}})
	require.Zero(t, gs.withholding.Load(), "of a Send that ran meanwhile")
}
