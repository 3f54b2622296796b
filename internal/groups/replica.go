package groups

import (
	"cmp"
	"sync/atomic"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/fair"
	"github.com/seed-4d73690b/rafthttp/internal/member"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// replica is a member of a group that lives on a node. There are many: it is small.
type replica struct {
	group *Group
	id    uint64
	node  *node
	at    int          // its place in node.replicas; guarded by node.mu
	sent  atomic.Int64 // Groups.clock when something was sent to it last
	owed  atomic.Bool  // a report is due

	out    [queue.Kinds]atomic.Pointer[fair.Flow] // nil: nothing was sent yet
	posted [queue.Kinds]atomic.Pointer[fair.Flow] // the same in POSTs
	in     sender

	snapshots *snapshotSender // nil: none was sent yet; guarded by group.mu until the end
}

func newReplica(g *Group, id uint64, n *node) *replica {
	r := &replica{group: g, id: id, node: n}
	r.sent.Store(-inFlight)
	r.in = sender{group: g, shares: &n.shares}
	return r
}

func (r *replica) compare(id uint64) int { return cmp.Compare(r.id, id) }

// end ends the replica, and returns channels that are closed when running calls of Process with its messages have returned.
func (r *replica) end() (running []<-chan struct{}) {
	running = r.in.end()
	if r.snapshots != nil {
		r.snapshots.end()
	}
	for k := range r.out {
		r.dropFlow(r.node.writers[streamOf(queue.Kind(k))].Queue, r.out[k].Load())
		r.dropFlow(r.node.posts.queue, r.posted[k].Load())
	}
	r.node.remove(r)
	r.group.groups.leaveNode(r.node)
	return running
}

// dropFlow drops the queued messages of a flow, which may be nil.
func (r *replica) dropFlow(q *fair.SendQueue, f *fair.Flow) {
	if f == nil {
		return
	}
	for _, it := range q.Remove(f) {
		r.group.lose(q, it.Msg, errs.ErrPeerRemoved)
	}
}

// streamOf returns which stream carries a kind of messages.
func streamOf(k queue.Kind) int {
	if k == queue.Append {
		return appends
	}
	return messages
}

// flowOf returns the flow in f, which is made if there is none.
func flowOf(f *atomic.Pointer[fair.Flow], group uint64) *fair.Flow {
	if flow := f.Load(); flow != nil {
		return flow
	}
	f.CompareAndSwap(nil, &fair.Flow{Group: group})
	return f.Load()
}

// send gives m to a queue, or reports it lost. A MsgSnap goes by POST, whose answer is its result.
func (r *replica) send(m *raftpb.Message) {
	k, size := queue.KindOf(m.GetType()), wire.MemorySize(m)
	r.sent.Store(r.group.groups.clock.Load())
	q, v := r.node.writers[streamOf(k)].Queue, queue.Down
	if m.GetType() != raftpb.MsgSnap {
		v = q.Offer(flowOf(&r.out[k], r.group.id), m, size, wire.IsCoalesced(m))
	}
	if v == queue.Down {
		q = r.node.posts.queue
		v = q.Offer(flowOf(&r.posted[k], r.group.id), m, size, wire.IsCoalesced(m))
	}
	if err := v.Err(); err != nil {
		r.group.lose(q, m, err)
	}
}

// lose accounts for a message that is not sent. Its replica may have been removed.
func (g *Group) lose(q *fair.SendQueue, m *raftpb.Message, cause error) {
	q.Drop(1, member.ReasonOf(cause))
	if r := g.find(m.GetTo()); r != nil {
		r.unreachable()
	}
	if m.GetType() == raftpb.MsgSnap {
		g.snapshotEnded(m.GetTo(), cause)
	}
}

// unreachable reports the replica unreachable, once for any number of calls before the report.
func (r *replica) unreachable() {
	if r.owed.CompareAndSwap(false, true) {
		r.group.tell(&raftpb.Message{Type: raftpb.MsgUnreachable.Enum(), From: &r.id})
	}
}

// snapshotEnded reports the result of a snapshot to a replica: a failure unless cause is nil.
func (g *Group) snapshotEnded(id uint64, cause error) {
	g.tell(&raftpb.Message{Type: raftpb.MsgSnapStatus.Enum(), From: &id, Reject: new(cause != nil)})
}

// lose accounts for messages that a queue did not deliver.
func (gs *Groups) lose(q *fair.SendQueue, items []fair.Item, cause error) {
	gs.mu.RLock()
	defer gs.mu.RUnlock()
	for _, it := range items {
		if g := gs.all[it.Flow.Group]; g != nil {
			g.lose(q, it.Msg, cause)
		} else {
			q.Drop(1, member.ReasonOf(errs.ErrPeerRemoved))
		}
	}
}
