package groups

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/internal/callback"
	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/fair"
	"github.com/seed-4d73690b/rafthttp/internal/member"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
	"github.com/seed-4d73690b/rafthttp/internal/stream"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// sender is a replica as the sender of messages, or all replicas that a group does not have: its messages wait for
// Process in an inbox for each kind.
type sender struct {
	group    *Group
	stranger bool       // it is of replicas that the group does not have
	control  fair.Inbox // of control messages
	shares   *[queue.Kinds]*fair.Share

	boxes [queue.Kinds]atomic.Pointer[fair.Inbox] // nil: nothing was received yet; set under mu; of control messages: it is control
	mu    sync.Mutex
	ended bool
	done  chan struct{}        // closed at the end; nil: nobody waits for it
	after []<-chan struct{}    // closed when calls of Process for an earlier replica with this id have returned; does not change
	known map[uint64]*stranger // the last strangers, by id; guarded by mu
}

// init makes s the sender of messages of the group, within these shares.
func (s *sender) init(g *Group, shares *[queue.Kinds]*fair.Share) {
	s.group, s.shares = g, shares
	s.control = fair.Inbox{Group: g.id, Owner: s, Share: shares[queue.Control]}
}

// box returns the inbox of a kind, or nil if the sender has ended.
func (s *sender) box(k queue.Kind) *fair.Inbox {
	if k == queue.Control {
		return &s.control
	}
	if in := s.boxes[k].Load(); in != nil {
		return in
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return nil
	}
	in := s.boxes[k].Load()
	if in == nil {
		in = &fair.Inbox{Group: s.group.id, Owner: s, Share: s.shares[k]}
		s.boxes[k].Store(in)
	}
	return in
}

// end drops the messages that wait, and returns channels that are closed when running calls of Process have returned.
func (s *sender) end() (running []<-chan struct{}) {
	s.mu.Lock()
	if !s.ended && s.done != nil {
		close(s.done)
	}
	s.ended = true
	s.forget()
	s.mu.Unlock()
	for k := range s.boxes {
		in := s.boxes[k].Load()
		if queue.Kind(k) == queue.Control {
			in = &s.control
		}
		if in != nil {
			left, returned := s.group.groups.pools[k].Remove(in)
			s.group.drop(len(left), errs.ErrPeerRemoved)
			for i := range left {
				s.group.groups.refuseWaiting(left[i].Msg, errs.ErrPeerRemoved)
			}
			running = append(running, returned)
		}
	}
	return running
}

// process gives a message to raft, and the result to the request that has brought it, if it waits.
func (s *sender) process(k queue.Kind, m *raftpb.Message) {
	g, cfg, from := s.group, s.group.groups.node, m.GetFrom()
	defer cfg.Guard.Recover(callback.Call{Name: callback.RaftProcess, Peer: types.ID(from), Lane: k.String(), Type: m.GetType(), From: from})
	for _, returned := range s.after {
		select {
		case <-returned:
		case <-processContext{s}.Done():
		}
	}
	ctx, ticket := context.Context(processContext{s}), g.groups.ticketOf(m)
	if ticket != nil {
		if ctx = ticket.Ctx; !ticket.Claim() {
			g.drop(1, errs.ErrStalled)
			return
		}
	}
	err := s.refusal(from)
	if err == nil && !g.gate.enter() {
		err = errs.ErrStopped
	}
	if err != nil {
		g.drop(1, err)
		if errors.Is(err, errs.ErrOfRemoved) {
			s.noteRemoved(from)
			s.nodeOf(from).refuse(g.id, m, wire.WasRemoved)
		}
		if ticket != nil {
			ticket.Finish(queue.Outcome{Err: err})
		}
		return
	}
	defer g.gate.leave()
	if k == queue.Proposal { // without a leader it blocks, and there are as many places as groups
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, cfg.PostTimeout(), errs.ErrStalled)
		defer cancel()
	}
	err = g.app.Raft.Process(ctx, m)
	if ticket != nil {
		ticket.Finish(queue.Outcome{Processed: true, Err: err})
	}
	if failed := err != nil; failed != g.failing.Load() && g.failing.CompareAndSwap(!failed, failed) && failed && !g.stopped.Load() {
		g.log().Warn("failed to process a raft message; further failures are not logged until one succeeds",
			zap.String("lane", k.String()), zap.String("from", types.ID(from).String()), zap.Error(err))
	}
}

// refusal returns why a message of a replica is not processed, or nil.
func (s *sender) refusal(from uint64) error {
	if !s.stranger {
		return nil
	}
	removed, err := s.group.isRemoved(from)
	if removed {
		return errs.ErrOfRemoved
	}
	return err
}

// mayBeFrom reports whether a message with this From may come from a node, for a replica with this id: r, or nil if the group does not
// have it. The local replica sends nothing to itself.
func (g *Group) mayBeFrom(from uint64, r *replica, n *node) bool {
	return from != g.self && (r == nil || r.node == n)
}

// log returns the log for lines about the group, or one that drops them if there were too many about all groups.
func (g *Group) log() *zap.Logger {
	if !g.groups.lines.Allow() {
		return zap.NewNop()
	}
	return g.groups.node.Log.With(zap.Uint64("group", g.id))
}

// drop counts received messages that Process does not get.
func (g *Group) drop(n int, cause error) {
	if n == 0 {
		return
	}
	if g.drops.Load() == nil {
		g.drops.CompareAndSwap(nil, new(queue.Counters))
	}
	g.drops.Load().Drop(n, member.ReasonOf(cause))
}

// lookupTogether is how many groups are looked up under one lock.
const lookupTogether = 64

// Receiver gets the messages of all groups, in place of their Rafts. Its methods are called concurrently for
// several nodes, and must not block.
type Receiver interface {
	// Receive gets messages of one node, in order. They may be of groups that are not here. It may keep the messages, and
	// not the slice.
	Receive(node types.ID, items []stream.GroupItem)
	// Unreachable reports that messages of these groups to the node were lost or may have been.
	Unreachable(node types.ID, groups []uint64)
}

// receiveAll gives messages from a node to the Receiver, except those that are refused.
func (gs *Groups) receiveAll(from types.ID, n *node, items []stream.GroupItem, refuse refuser) {
	kept := items[:0]
	for _, it := range items {
		gs.mu.RLock()
		g := gs.all[it.Group]
		gs.mu.RUnlock()
		self, own := it.Msg.GetTo(), true
		var r *replica
		if g != nil {
			r = g.find(it.Msg.GetFrom())
			self, own = g.self, g.mayBeFrom(it.Msg.GetFrom(), r, n)
		}
		if err := gs.node.AuthorizeReplica(it.Msg, self, own); err == nil {
			switch {
			case g == nil:
			case r == nil:
				g.stranger().seen(it.Msg.GetFrom(), n)
			case it.Msg.GetType() == raftpb.MsgAppResp:
				r.answered(it.Msg)
			}
			kept = append(kept, it)
		} else if g != nil {
			g.refuse(it.Msg, err, refuse)
		}
	}
	if len(kept) > 0 {
		gs.cfg.Receiver.Receive(from, kept)
	}
}

// receive sorts messages from a node into the inboxes. Appends wait up to wait for room; an error ends the stream. n is nil if
// no replica is known that lives on the node.
func (gs *Groups) receive(ctx context.Context, from types.ID, n *node, items []stream.GroupItem, wait time.Duration, refuse refuser) error {
	if gs.cfg.Receiver != nil {
		gs.receiveAll(from, n, items, refuse)
		return nil
	}
	var found [lookupTogether]*Group
	for len(items) > 0 {
		some := items[:min(len(items), lookupTogether)]
		items = items[len(some):]
		gs.mu.RLock()
		for i := range some {
			found[i] = gs.all[some[i].Group]
		}
		gs.mu.RUnlock()
		for i, it := range some {
			if found[i] == nil {
				gs.unknown.Add(1)
				refuse(it.Group, it.Msg, wire.NoSuchGroup)
				continue
			}
			if err := found[i].receive(ctx, n, it, wait, refuse); err != nil {
				return err
			}
		}
	}
	return nil
}

// refuse drops a received message. Its sender is told if it is for another replica, too large, or a MsgSnap, which has a result.
func (g *Group) refuse(m *raftpb.Message, cause error, refuse refuser) {
	g.drop(1, cause)
	switch {
	case errors.Is(cause, protocol.ErrToMismatch):
		refuse(g.id, m, wire.NoSuchReplica)
	case errors.Is(cause, wire.ErrExceedSizeLimit):
		refuse(g.id, m, wire.TooLarge)
	case m.GetType() == raftpb.MsgSnap:
		refuse(g.id, m, wire.WasDropped)
	}
}

// receive gives a message from a node, nil for one that is not known, to its inbox.
func (g *Group) receive(ctx context.Context, n *node, it stream.GroupItem, wait time.Duration, refuse refuser) error {
	k := queue.KindOf(it.Msg.GetType())
	r := g.find(it.Msg.GetFrom())
	if err := g.groups.node.AuthorizeReplica(it.Msg, g.self, g.mayBeFrom(it.Msg.GetFrom(), r, n)); err != nil {
		g.refuse(it.Msg, err, refuse)
		return nil
	}
	var in *fair.Inbox
	if r != nil {
		if it.Msg.GetType() == raftpb.MsgAppResp {
			r.answered(it.Msg)
		}
		in = r.in.box(k)
	} else {
		s := g.stranger()
		s.seen(it.Msg.GetFrom(), n)
		in = s.box(k)
	}
	if in == nil { // the replica has ended
		g.refuse(it.Msg, errs.ErrPeerRemoved, refuse)
		return nil
	}
	pool := g.groups.pools[k]
	if k != queue.Append || wait == 0 {
		if v := pool.Offer(in, it.Msg, it.Size, wire.IsCoalesced(it.Msg)); v != queue.Accepted {
			g.refuse(it.Msg, v.Err(), refuse)
		}
		return nil
	}
	err := pool.OfferWait(ctx, in, it.Msg, it.Size, wait)
	if err == nil {
		return nil
	}
	g.refuse(it.Msg, err, refuse)
	if ctx.Err() != nil {
		return err // so that the sender's raft is told
	}
	return nil
}
