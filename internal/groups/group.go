package groups

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/callback"
	"github.com/seed-4d73690b/rafthttp/internal/fair"
	"github.com/seed-4d73690b/rafthttp/internal/faultpoint"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
	"github.com/seed-4d73690b/rafthttp/internal/snapshot"
)

// App is the application of a group.
type App struct {
	Raft  callback.Raft   // not guarded
	Store *callback.Store // nil: snapshots are refused
	// ErrorC gets ErrMemberRemoved when a node says that the local replica was removed from the group; nil: nobody is told.
	ErrorC chan<- error
}

// Group is one raft group of a Transport. All methods are safe for concurrent use.
//
// There may be ten thousand, and most are in no cache when a heartbeat comes: the fields that it needs are together, and what
// only some groups need is made when they do.
type Group struct {
	id, self uint64
	groups   *Groups
	replicas replicas // changed under mu
	app      App
	stopped  atomic.Bool // it has ended; set under mu
	failing  atomic.Bool // the last call of Process returned an error
	awaiting atomic.Bool // await was called
	work     int32       // snapshots in both directions, and 1 until the end of the group; guarded by mu

	mu        sync.Mutex
	rare      *rareOfGroup               // nil: nothing of it was needed yet; guarded by mu until the end
	telling   gate                       // of ErrorC
	asking    gate                       // of calls of IsIDRemoved
	strangers atomic.Pointer[sender]     // of messages from replicas that the group does not have; nil: none came yet
	reports   atomic.Pointer[fair.Inbox] // nil: none was due yet
	dropped   atomic.Pointer[dropped]    // nil: no message was dropped or refused yet

	receiving atomic.Pointer[snapshot.Receiver] // nil: no snapshot has come yet
	results   atomic.Pointer[results]           // nil: no snapshot was sent yet
}

// init makes g a group.
func (g *Group) init(gs *Groups, id, self uint64, app App) {
	g.groups, g.id, g.self, g.app, g.work = gs, id, self, app, 1
}

// raft returns the Raft of the group, guarded except for Process.
func (g *Group) raft() callback.Raft {
	return callback.GuardRaft(g.groups.node.Guard.Of(g.id), g.app.Raft)
}

// dropped counts messages of a group.
type dropped struct {
	received queue.Counters // and not processed
	local    atomic.Uint64  // for the local replica, or for a local thread of raft
	refused  atomic.Uint64  // by other nodes
}

// drops returns what counts dropped messages, which is made if there is nothing.
func (g *Group) drops() *dropped {
	if d := g.dropped.Load(); d != nil {
		return d
	}
	g.dropped.CompareAndSwap(nil, new(dropped))
	return g.dropped.Load()
}

// rareOfGroup is what few groups have, and each at its end.
type rareOfGroup struct {
	ctx     context.Context // nil: none was needed yet
	cancel  context.CancelCauseFunc
	earlier map[uint64][]<-chan struct{} // of replicas that were removed: closed when their calls of Process have returned

	// Of the end:
	cause    error
	worked   chan struct{}     // closed when there is no work any more
	running  []<-chan struct{} // closed when calls of Process have returned; set before the end of work
	returned chan struct{}     // closed when await has returned
}

// more is called with mu held.
func (g *Group) more() *rareOfGroup {
	if g.rare == nil {
		g.rare = new(rareOfGroup)
	}
	return g.rare
}

// context returns a context that ends with the group.
func (g *Group) context() context.Context {
	g.mu.Lock()
	defer g.mu.Unlock()
	more := g.more()
	if more.ctx == nil {
		more.ctx, more.cancel = context.WithCancelCause(context.Background())
		if g.stopped.Load() {
			more.cancel(more.cause)
		}
	}
	return more.ctx
}

// find returns the replica with this id, or nil.
func (g *Group) find(id uint64) *replica { return g.replicas.find(id) }

// stranger returns the sender of messages from replicas that the group does not have.
func (g *Group) stranger() *sender {
	if s := g.strangers.Load(); s != nil {
		return s
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.strangers.Load()
	if s == nil {
		s = &sender{stranger: true}
		s.init(g, &g.groups.guests)
		if g.stopped.Load() {
			s.end()
		}
		g.strangers.Store(s)
	}
	return s
}

// reporting returns the reports.
func (g *Group) reporting() *fair.Inbox {
	if r := g.reports.Load(); r != nil {
		return r
	}
	g.reports.CompareAndSwap(nil, &fair.Inbox{Group: g.id, Owner: g, Share: g.groups.owed})
	return g.reports.Load()
}

// Self returns the id of the local replica.
func (g *Group) Self() uint64 { return g.self }

// Has reports whether the group has a replica with this id, beside the local one.
func (g *Group) Has(id uint64) bool { return g.find(id) != nil }

// Add adds a replica that lives on a node, or moves it there: what was sent to it lately may be lost, which raft is told. urls are those of
// the node, for all groups.
func (g *Group) Add(id uint64, on types.ID, urls types.URLs) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopped.Load() {
		return
	}
	n := g.groups.useNode(on, urls)
	if n == nil {
		return
	}
	old := g.find(id)
	if old != nil && old.node == n {
		g.groups.leaveNode(n)
		return
	}
	if old != nil {
		g.ends(id, old.end())
		faultpoint.Hit(faultpoint.GroupReplicaMoved)
	}
	r := newReplica(g, id, n)
	n.add(r)
	if g.put(r, old); old != nil && old.sentLately() { // withheld appends, too, of which the former queue would tell raft later
		r.unreachable()
	}
}

// ends is called with mu held: it notes calls of Process with messages of a replica that has ended, for the next replica with its id, and
// forgets all that have returned.
func (g *Group) ends(id uint64, running []<-chan struct{}) {
	more := g.more()
	if more.earlier == nil {
		more.earlier = map[uint64][]<-chan struct{}{}
	}
	more.earlier[id] = slices.Concat(more.earlier[id], running)
	for id, calls := range more.earlier {
		var left []<-chan struct{} // a new slice: senders have the former one
		for _, returned := range calls {
			select {
			case <-returned:
			default:
				left = append(left, returned)
			}
		}
		if more.earlier[id] = left; len(left) == 0 {
			delete(more.earlier, id)
		}
	}
}

// earlierCalls returns calls of Process with messages of replicas with this id that have ended.
func (g *Group) earlierCalls(id uint64) []<-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.rare == nil {
		return nil
	}
	return g.rare.earlier[id]
}

// Remove removes a replica. Its queued messages are dropped.
func (g *Group) Remove(id uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if old := g.find(id); old != nil {
		g.replicas.remove(old)
		faultpoint.Hit(faultpoint.GroupReplicaRemoved)
		g.ends(id, old.end())
	}
}

// RemoveAll removes all replicas but the local one.
func (g *Group) RemoveAll() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range g.replicas.all() {
		g.replicas.remove(r)
		g.ends(r.id, r.end())
	}
}

// Update moves the node of a replica to other URLs, for all groups.
func (g *Group) Update(id uint64, urls types.URLs) {
	if r := g.find(id); r != nil {
		r.node.update(urls)
	}
}

// ActiveSince returns when the node of a replica became active, or the zero time.
func (g *Group) ActiveSince(id uint64) time.Time {
	if r := g.find(id); r != nil {
		return r.node.member.Activity.ActiveSince()
	}
	return time.Time{}
}

// Active returns the number of replicas whose nodes are active.
func (g *Group) Active() (n int) {
	for _, r := range g.replicas.all() {
		if !r.node.member.Activity.ActiveSince().IsZero() {
			n++
		}
	}
	return n
}

// Send sends each message to the replica in its To field. Messages to 0 and to unknown replicas are ignored, except answers to one
// whose node is known. It does not block, and owns the messages. Messages that follow each other by the same way take one lock.
func (g *Group) Send(msgs []*raftpb.Message) {
	for len(msgs) > 0 {
		n, to := 1, msgs[0].GetTo()
		if r := g.find(to); r != nil {
			n = r.send(msgs)
		} else if to == g.self || raft.IsLocalMsgTarget(to) {
			g.drops().local.Add(1)
			g.groups.drops[queue.DropLocal].Add(1)
		} else {
			g.answer(msgs[0])
		}
		msgs = msgs[n:]
	}
}

// report calls ReportUnreachable or ReportSnapshot: m is the message that raft makes of it.
func (g *Group) report(m *raftpb.Message) {
	faultpoint.Hit(faultpoint.GroupReport)
	id := m.GetFrom()
	switch m.GetType() {
	case raftpb.MsgUnreachable:
		r := g.find(id)
		if r != nil {
			r.owed.Store(false)
		}
		if to := g.groups.cfg.Receiver; to == nil {
			g.raft().ReportUnreachable(id)
		} else if r != nil {
			to.Unreachable(r.node.member.RemoteID, []uint64{g.id})
		}
		return
	}
	status := raft.SnapshotFinish
	if m.GetReject() {
		status = raft.SnapshotFailure
	}
	g.raft().ReportSnapshot(id, status)
}

// tell has report called with m.
func (g *Group) tell(m *raftpb.Message) {
	g.groups.reports.Offer(g.reporting(), m, 1, false)
}
