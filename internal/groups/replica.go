package groups

import (
	"slices"
	"sync/atomic"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/fair"
	"github.com/seed-4d73690b/rafthttp/internal/member"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// replica is a member of a group that lives on a node. There are many: it is small, and what control messages need is together.
type replica struct {
	id      uint64
	node    *node
	sent    atomic.Int64 // Groups.clock when something was sent to it last, or waited for a stream
	control fair.Flow    // of control messages that are sent
	in      sender
	owed    atomic.Bool                  // a report is due
	at      int32                        // its place in node.replicas; guarded by node.mu
	window  atomic.Pointer[appendWindow] // nil: no appends lately
	others  atomic.Pointer[otherFlows]   // nil: nothing was sent by them yet

	snapshots *snapshotSender // nil: none was sent yet; guarded by group.mu until the end
}

// otherFlows are those beside that of control messages.
type otherFlows struct {
	out    [queue.Kinds - 1]fair.Flow // of the other kinds
	posted [queue.Kinds]fair.Flow     // of messages in POSTs
}

func newReplica(g *Group, id uint64, n *node) *replica {
	r := &replica{id: id, node: n}
	r.sent.Store(-inFlight)
	r.control.Group, r.control.Owner = g.id, g
	r.in.init(g, &n.shares)
	return r
}

// group returns the group of the replica.
func (r *replica) group() *Group { return r.in.group }

// sentLately reports whether something was sent to the replica, or waited, so lately that it may be lost with its stream.
func (r *replica) sentLately() bool { return r.sent.Load() > r.node.groups.clock.Load()-inFlight }

// replicas are the replicas of a group on other nodes. Those of a group of three members are in a line of a cache with what else
// is needed of the group.
type replicas struct {
	few [2]struct { // a place whose replica is nil is free
		id      atomic.Uint64 // by which it is found without reading it
		replica atomic.Pointer[replica]
	}
	more atomic.Pointer[[]*replica] // nil: none; replaced, never modified
}

// find returns the replica with this id, or nil. It may be called concurrently with any method.
func (rs *replicas) find(id uint64) *replica {
	for i := range rs.few {
		if one := &rs.few[i]; one.id.Load() == id {
			if r := one.replica.Load(); r != nil && r.id == id { // the place may have been used again
				return r
			}
		}
	}
	if more := rs.more.Load(); more != nil {
		for _, r := range *more {
			if r.id == id {
				return r
			}
		}
	}
	return nil
}

// put adds a replica, in the place of old unless that is nil. Its caller and those of remove exclude each other.
func (rs *replicas) put(r, old *replica) {
	for i := range rs.few {
		one := &rs.few[i]
		if one.replica.Load() == old {
			one.id.Store(r.id)
			one.replica.Store(r)
			return
		}
	}
	more := slices.DeleteFunc(rs.rest(), func(r *replica) bool { return r == old })
	more = append(more, r)
	rs.more.Store(&more)
}

func (rs *replicas) remove(r *replica) {
	for i := range rs.few {
		if rs.few[i].replica.CompareAndSwap(r, nil) {
			return
		}
	}
	more := slices.DeleteFunc(rs.rest(), func(other *replica) bool { return r == other })
	rs.more.Store(&more)
}

// rest returns a copy of more.
func (rs *replicas) rest() []*replica {
	if more := rs.more.Load(); more != nil {
		return slices.Clone(*more)
	}
	return nil
}

// all returns the replicas, in no order.
func (rs *replicas) all() []*replica {
	all := rs.rest()
	for i := range rs.few {
		if r := rs.few[i].replica.Load(); r != nil {
			all = append(all, r)
		}
	}
	return all
}

// end ends the replica, and returns channels that are closed when running calls of Process with its messages have returned.
func (r *replica) end() (running []<-chan struct{}) {
	running = r.in.end()
	r.dropFlow(r.node.writers[messages].Queue, &r.control)
	if r.snapshots != nil {
		r.snapshots.end()
	}
	if others := r.others.Load(); others != nil {
		for i := range others.out {
			r.dropFlow(r.node.writers[streamOf(queue.Kind(i+1))].Queue, &others.out[i])
		}
		for i := range others.posted {
			r.dropFlow(r.node.posts.queues[i], &others.posted[i])
		}
	}
	r.endWindow()
	r.group().hurrySnapshots(r.id)
	r.node.remove(r)
	r.group().groups.leaveNode(r.node)
	return running
}

// dropFlow drops the queued messages of a flow.
func (r *replica) dropFlow(q *fair.SendQueue, f *fair.Flow) {
	for _, it := range q.Remove(f) {
		r.group().lose(q, it.Msg, errs.ErrPeerRemoved)
	}
}

// streamOf returns which stream carries a kind of messages.
func streamOf(k queue.Kind) int {
	if k == queue.Append {
		return appends
	}
	return messages
}

// withOthers returns the other flows, which are made if there are none.
func (r *replica) withOthers() *otherFlows {
	if others := r.others.Load(); others != nil {
		return others
	}
	others := new(otherFlows)
	for i := range others.out {
		others.out[i].Group, others.out[i].Owner = r.group().id, r.group()
	}
	for i := range others.posted {
		others.posted[i].Group, others.posted[i].Owner = r.group().id, r.group()
	}
	r.others.CompareAndSwap(nil, others)
	return r.others.Load()
}

// flow returns the flow of a kind on a stream.
func (r *replica) flow(k queue.Kind) *fair.Flow {
	if k == queue.Control {
		return &r.control
	}
	return &r.withOthers().out[k-1]
}

// isSending reports whether messages to the replica wait in the queues of streams, or are being written, of those that have messages.
func (r *replica) isSending(streams [streams]bool) bool {
	holds := func(k queue.Kind, f *fair.Flow) bool {
		i := streamOf(k)
		return streams[i] && r.node.writers[i].Queue.Held(f).Messages > 0
	}
	if holds(queue.Control, &r.control) {
		return true
	}
	others := r.others.Load()
	return others != nil && (holds(queue.Append, &others.out[queue.Append-1]) || holds(queue.Proposal, &others.out[queue.Proposal-1]))
}

// send gives the first of msgs, and the following ones with the same way, to a queue, or reports them lost, and returns their number.
func (r *replica) send(msgs []*raftpb.Message) int {
	if now := r.node.groups.clock.Load(); r.sent.Load() != now {
		r.sent.Store(now)
	}
	m := msgs[0]
	k := queue.KindOf(m.GetType())
	if m.GetType() == raftpb.MsgSnap { // it goes by POST, whose answer is its result
		if r.group().posts(m) {
			r.post(k, msgs[:1])
		}
		return 1
	}
	tracked := queue.Tracks(m)
	msgs = msgs[:sameWay(msgs, k, tracked)]
	q, n, withheld, v := r.node.writers[streamOf(k)].Queue, 0, 0, queue.Accepted
	o, f := q.Begin(), r.flow(k)
	for ; n < len(msgs) && v.Err() == nil && v != queue.Down; n++ {
		if m = msgs[n]; tracked {
			v = r.offerAppend(o, f, m)
		} else {
			v = o.Offer(f, m, wire.MemorySize(m), wire.IsCoalesced(m))
		}
		if v == queue.Withheld {
			withheld++
		}
	}
	o.End()
	if withheld > 0 { // raft is told once the queue has drained
		q.Drop(withheld, queue.DropQueueFull)
	}
	if v == queue.Down {
		return n - 1 + r.post(k, msgs[n-1:])
	}
	if err := v.Err(); err != nil {
		r.group().lose(q, m, err)
	}
	return n
}

// sameWay returns how many of msgs go to one replica in one flow, one after another, up to queue.RunMessages. The first is
// of this kind, and tracked by an append window or not.
func sameWay(msgs []*raftpb.Message, k queue.Kind, tracked bool) int {
	to, n := msgs[0].GetTo(), min(len(msgs), queue.RunMessages)
	for i := 1; i < n; i++ {
		m := msgs[i]
		if m.GetTo() != to || queue.KindOf(m.GetType()) != k || m.GetType() == raftpb.MsgSnap || queue.Tracks(m) != tracked {
			return i
		}
	}
	return n
}

// post gives messages of one kind to the queue of POSTs, up to the first that is lost, and returns their number.
func (r *replica) post(k queue.Kind, msgs []*raftpb.Message) int {
	q, n, v := r.node.posts.queues[k], 0, queue.Accepted
	o, f := q.Begin(), &r.withOthers().posted[k]
	for ; n < len(msgs) && v == queue.Accepted; n++ {
		v = o.Offer(f, msgs[n], wire.MemorySize(msgs[n]), wire.IsCoalesced(msgs[n]))
	}
	o.End()
	switch err := v.Err(); {
	case v == queue.Down: // the node has ended meanwhile: the replica was removed, or moved to another
		r.group().lose(q, msgs[n-1], errs.ErrPeerRemoved)
	case err != nil:
		r.group().lose(q, msgs[n-1], err)
	}
	return n
}

// lose accounts for a message that is not sent. Its replica may have been removed.
func (g *Group) lose(q *fair.SendQueue, m *raftpb.Message, cause error) {
	q.Drop(1, member.ReasonOf(cause))
	if r := g.find(m.GetTo()); r != nil {
		r.unreachable()
	}
	if m.GetType() == raftpb.MsgSnap {
		g.posted(m, cause)
	}
}

// unreachable reports the replica unreachable, once for any number of calls before the report.
func (r *replica) unreachable() {
	if r.owed.CompareAndSwap(false, true) {
		r.group().tell(&raftpb.Message{Type: raftpb.MsgUnreachable.Enum(), From: &r.id})
	}
}

// tellSnapshot reports the result of a snapshot to a replica: a failure unless cause is nil.
func (g *Group) tellSnapshot(id uint64, cause error) {
	g.tell(&raftpb.Message{Type: raftpb.MsgSnapStatus.Enum(), From: &id, Reject: new(cause != nil)})
}

// senderOf returns the group that a message is of, or nil if it was stopped: another one with its id did not send it.
func senderOf(it fair.Item) *Group {
	if g := it.Flow.Owner.(*Group); !g.stopped.Load() {
		return g
	}
	return nil
}

// lose accounts for messages that a queue did not deliver.
func (gs *Groups) lose(q *fair.SendQueue, items []fair.Item, cause error) {
	for _, it := range items {
		if g := senderOf(it); g != nil {
			g.lose(q, it.Msg, cause)
		} else {
			q.Drop(1, member.ReasonOf(errs.ErrPeerRemoved))
		}
	}
}
