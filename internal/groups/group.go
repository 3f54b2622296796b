package groups

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/callback"
	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/fair"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
	"github.com/seed-4d73690b/rafthttp/internal/snapshot"
)

// App is the application of a group.
type App struct {
	Raft  callback.Raft   // guarded, except Process
	Store *callback.Store // nil: snapshots are refused
	// Removed is called when a node says that the local replica was removed from the group. It does not block.
	Removed func()
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
	stopped  atomic.Bool // ctx has ended
	failing  atomic.Bool // the last call of Process returned an error
	ended    bool        // guarded by mu
	ctx      context.Context
	cancel   context.CancelCauseFunc

	mu        sync.Mutex
	strangers atomic.Pointer[sender]         // of messages from replicas that the group does not have; nil: none came yet
	reports   atomic.Pointer[reports]        // nil: none was due yet
	drops     atomic.Pointer[queue.Counters] // of messages that were received; nil: none
	local     atomic.Uint64                  // messages for the local replica, or for a local thread of raft
	refusals  atomic.Uint64                  // of messages to other nodes
	work      int                            // snapshots in both directions, and 1 until the end of the group: reports come as long as there is any; guarded by mu

	receiving atomic.Pointer[snapshot.Receiver] // nil: no snapshot has come yet
}

// reports are the reports of one group.
type reports struct {
	inbox fair.Inbox
	ended chan struct{} // closed when no report comes any more
}

// init makes g a group.
func (g *Group) init(gs *Groups, id, self uint64, app App) {
	g.groups, g.id, g.self, g.app, g.work = gs, id, self, app, 1
	g.ctx, g.cancel = context.WithCancelCause(context.Background())
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
		if g.ended {
			s.end()
		}
		g.strangers.Store(s)
	}
	return s
}

// reporting returns the reports.
func (g *Group) reporting() *reports {
	if r := g.reports.Load(); r != nil {
		return r
	}
	r := &reports{ended: make(chan struct{}), inbox: fair.Inbox{Group: g.id, Owner: g, Share: g.groups.owed}}
	g.reports.CompareAndSwap(nil, r)
	return g.reports.Load()
}

// Has reports whether the group has a replica with this id, beside the local one.
func (g *Group) Has(id uint64) bool { return g.find(id) != nil }

// Add adds a replica that lives on a node, or moves it there. urls are those of the node, for all groups.
func (g *Group) Add(id uint64, on types.ID, urls types.URLs) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended {
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
	r := newReplica(g, id, n)
	n.add(r)
	g.replicas.put(r, old)
	if old != nil {
		old.end()
	}
}

// Remove removes a replica. Its queued messages are dropped.
func (g *Group) Remove(id uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if old := g.find(id); old != nil {
		g.replicas.remove(old)
		old.end()
	}
}

// RemoveAll removes all replicas but the local one.
func (g *Group) RemoveAll() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range g.replicas.all() {
		g.replicas.remove(r)
		r.end()
	}
}

// Update moves the node of a replica to other URLs, for all groups.
func (g *Group) Update(id uint64, urls types.URLs) {
	if r := g.find(id); r != nil {
		r.node.update(urls)
	}
}

// Leave ends the group here: messages of it are refused, and no callback comes once it has returned. It waits for running
// ones, so it must not be called from inside one.
func (g *Group) Leave() {
	g.groups.mu.Lock()
	if g.groups.all[g.id] == g {
		delete(g.groups.all, g.id)
	}
	g.groups.mu.Unlock()
	for _, returned := range g.end(errs.ErrStopped) {
		<-returned
	}
}

// end ends the group, and returns channels that are closed when the running callbacks have returned.
func (g *Group) end(cause error) (running []<-chan struct{}) {
	g.stopped.Store(true)
	g.cancel(cause)
	reports := g.reporting()
	g.mu.Lock()
	if g.ended {
		g.mu.Unlock()
		return []<-chan struct{}{reports.ended}
	}
	g.ended = true
	all, strangers := g.replicas.all(), g.strangers.Load()
	for _, r := range all {
		g.replicas.remove(r)
	}
	g.mu.Unlock()
	for _, r := range all {
		running = append(running, r.end()...)
	}
	if strangers != nil {
		running = append(running, strangers.end()...)
	}
	g.finish()
	return append(running, reports.ended)
}

// begin counts work that the end of the group waits for, until finish, unless the group has ended.
func (g *Group) begin() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended {
		return false
	}
	g.work++
	return true
}

// finish ends what begin has begun. After all reports the last one tells that there are no more.
func (g *Group) finish() {
	g.mu.Lock()
	g.work--
	last := g.work == 0
	g.mu.Unlock()
	if last {
		g.tell(&raftpb.Message{Type: raftpb.MsgHup.Enum()})
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

// Send sends each message to the replica in its To field. Messages to 0 and to unknown replicas are ignored. It does not
// block, and owns the messages.
func (g *Group) Send(msgs []*raftpb.Message) {
	for _, m := range msgs {
		to := m.GetTo()
		if r := g.find(to); r != nil {
			r.send(m)
		} else if to == g.self || raft.IsLocalMsgTarget(to) {
			g.local.Add(1)
		}
	}
}

// report calls ReportUnreachable or ReportSnapshot: m is the message that raft makes of it. A MsgHup is the end of the group.
func (g *Group) report(m *raftpb.Message) {
	id := m.GetFrom()
	switch m.GetType() {
	case raftpb.MsgHup:
		r := g.reporting()
		g.groups.reports.Remove(&r.inbox)
		close(r.ended)
		g.groups.living.Done()
		return
	case raftpb.MsgUnreachable:
		r := g.find(id)
		if r != nil {
			r.owed.Store(false)
		}
		if to := g.groups.cfg.Receiver; to == nil {
			g.app.Raft.ReportUnreachable(id)
		} else if r != nil {
			to.Unreachable(r.node.member.RemoteID, []uint64{g.id})
		}
		return
	}
	status := raft.SnapshotFinish
	if m.GetReject() {
		status = raft.SnapshotFailure
	}
	g.app.Raft.ReportSnapshot(id, status)
}

// tell has report called with m.
func (g *Group) tell(m *raftpb.Message) {
	g.groups.reports.Offer(&g.reporting().inbox, m, 1, false)
}
