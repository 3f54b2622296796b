package groups

import (
	"cmp"
	"context"
	"errors"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/internal/callback"
	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/fair"
	"github.com/seed-4d73690b/rafthttp/internal/faultpoint"
	"github.com/seed-4d73690b/rafthttp/internal/member"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
	"github.com/seed-4d73690b/rafthttp/internal/stream"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// readAhead reads memory that process needs, and a message that answers, but none of the message, which may be another worker's by now. With ten thousand groups most of it is in no cache, and
// the processor waits for several places at a time, but not while locks are taken in between.
func readAhead(in *fair.Inbox) (sum uint64) {
	for i := range in.Owner.(*sender).group.replicas.few {
		if r := in.Owner.(*sender).group.replicas.few[i].replica.Load(); r != nil {
			sum += r.control.Group
		}
	}
	return sum
}

// process gives a message to raft, and the result to the request that has brought it, if it waits.
func (s *sender) process(k queue.Kind, m *raftpb.Message) {
	g, cfg, from := s.group, s.group.groups.node, m.GetFrom()
	if s.stranger {
		defer s.passed(k, from) // after Recover, which does not return if Process panics: others wait for it
	}
	faultpoint.Hit(faultpoint.GroupTaken)
	defer cfg.Guard.Recover(callback.Call{Name: callback.RaftProcess, Group: g.id, Peer: types.ID(from), Lane: k.String(), Type: m.GetType(), From: from})
	if s.stranger && !s.begin(k, from) {
		if !g.groups.refuseWaiting(m, errAdded) {
			g.drop(1, errs.ErrPeerRemoved)
		}
		return
	}
	if !s.await(k, from) {
		g.drop(1, errs.ErrPeerRemoved)
		g.groups.refuseWaiting(m, errs.ErrPeerRemoved)
		return
	}
	ctx, ticket := context.Context(processContext{s}), g.groups.ticketOf(m)
	if ticket != nil {
		if !ticket.Claim() {
			s.drop(k, cmp.Or(context.Cause(ticket.Ctx), errs.ErrStalled))
			return
		}
		var end context.CancelCauseFunc
		ctx, end = context.WithCancelCause(ticket.Ctx)
		defer context.AfterFunc(processContext{s}, func() { end(errs.ErrPeerRemoved) })()
		defer end(nil)
	}
	err := s.refusal(from)
	if err == nil && g.stopped.Load() {
		err = errs.ErrStopped
	}
	if err != nil {
		s.drop(k, err)
		if errors.Is(err, errs.ErrOfRemoved) {
			s.noteRemoved(from)
			s.nodeOf(from).refuse(g.id, m, wire.WasRemoved)
		}
		if ticket != nil {
			ticket.Finish(queue.Outcome{Err: err})
		}
		return
	}
	if k == queue.Proposal { // without a leader it blocks, and there are as many places as groups
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, cfg.PostTimeout(), errs.ErrStalled)
		defer cancel()
	}
	faultpoint.Hit(faultpoint.GroupBegun)
	err = g.app.Raft.Process(ctx, m)
	faultpoint.Hit(faultpoint.GroupPassed)
	if ticket != nil {
		ticket.Finish(queue.Outcome{Processed: true, Err: err})
	}
	if failed := err != nil; failed != g.failing.Load() && g.failing.CompareAndSwap(!failed, failed) && failed && !g.stopped.Load() {
		g.log().Warn("failed to process a raft message; further failures are not logged until one succeeds",
			zap.String("lane", k.String()), zap.String("from", types.ID(from).String()), zap.Error(err))
	}
}

// await waits for calls of Process with messages of the same replica that came by another sender. It returns false if it had to wait and
// the sender has ended meanwhile.
func (s *sender) await(k queue.Kind, from uint64) bool {
	if s.stranger {
		return s.awaitAll(s.group.earlierCalls(from)...)
	}
	more := s.rare.Load()
	if more == nil {
		return true
	}
	queued, ok := more.after.queued[k]
	return s.awaitAll(more.after.calls...) && (!ok || s.awaitAll(queued))
}

// awaitAll waits until all are closed, as await does.
func (s *sender) awaitAll(all ...<-chan struct{}) bool {
	ctx := processContext{s}
	for _, closed := range all {
		select {
		case <-closed:
			continue
		default:
		}
		select {
		case <-closed:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			return false
		}
	}
	return true
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
	g.drops().received.Drop(n, member.ReasonOf(cause))
	g.groups.drops[member.ReasonOf(cause)].Add(uint64(n))
}

// drop counts a message of a kind that was received and that Process does not get, with the group, and with the node that sent it unless
// the group or the replica has ended, in which the node has no part.
func (s *sender) drop(k queue.Kind, cause error) {
	s.group.drop(1, cause)
	if why := member.ReasonOf(cause); why != queue.DropEnded {
		s.shares[k].Drops.Drop(1, why)
	}
}

// receiveTogether is how many messages are given to their inboxes under one lock.
const receiveTogether = 64

// Receiver gets the messages of all groups, in place of their Rafts. Its methods are called concurrently, also for
// one node, and must not block.
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
	var found [receiveTogether]*Group
	for len(items) > 0 {
		some := items[:min(len(items), receiveTogether)]
		items = items[len(some):]
		gs.findAll(found[:len(some)], some)
		for i, it := range some {
			if gs.mayReceive(found[i], n, it, refuse) {
				kept = append(kept, it)
			}
		}
	}
	if len(kept) > 0 {
		gs.receiving.Add(1)
		defer gs.receiving.Add(-1)
		gs.cfg.Receiver.Receive(from, kept)
	}
}

// mayReceive reports whether the Receiver gets a message from a node, of this group, or of one that is not here if g is nil.
func (gs *Groups) mayReceive(g *Group, n *node, it stream.GroupItem, refuse refuser) bool {
	if g == nil {
		return gs.node.AuthorizeReplica(it.Msg, it.Msg.GetTo(), true) == nil
	}
	r, ok := gs.authorize(g, n, it, refuse)
	if ok && r == nil {
		g.stranger().seen(it.Msg.GetFrom(), n)
	}
	return ok
}

// authorize returns the replica that has sent a message of a group, or nil if the group does not have it. It refuses the message unless
// ok.
func (gs *Groups) authorize(g *Group, n *node, it stream.GroupItem, refuse refuser) (r *replica, ok bool) {
	from := it.Msg.GetFrom()
	r = g.find(from)
	if err := gs.node.AuthorizeReplica(it.Msg, g.self, g.mayBeFrom(from, r, n)); err != nil {
		g.refuse(it.Msg, err, refuse)
		return nil, false
	}
	if r != nil && it.Msg.GetType() == raftpb.MsgAppResp {
		r.answered(it.Msg)
	}
	return r, true
}

// findAll finds the groups of messages, and reads memory that is needed for these: see readAhead.
func (gs *Groups) findAll(found []*Group, items []stream.GroupItem) {
	gs.mu.RLock()
	for i := range items {
		found[i] = gs.all[items[i].Group]
	}
	gs.mu.RUnlock()
	gs.ahead.Store(readGroups(found, items))
	faultpoint.Hit(faultpoint.GroupFound)
}

// receive sorts messages from a node into the inboxes. Appends wait up to wait for room; an error ends the stream. n is nil if
// no replica is known that lives on the node.
func (gs *Groups) receive(ctx context.Context, from types.ID, n *node, items []stream.GroupItem, wait time.Duration, refuse refuser) error {
	if gs.cfg.Receiver != nil {
		gs.receiveAll(from, n, items, refuse)
		return nil
	}
	var by *fair.Stream
	if wait > 0 && n != nil {
		by = &n.delays
	}
	var found [receiveTogether]*Group
	var run [receiveTogether]fair.Received
	for len(items) > 0 {
		some := items[:min(len(items), receiveTogether)]
		items = items[len(some):]
		gs.findAll(found[:len(some)], some)
		kind, received := queue.Control, run[:0]
		for i, it := range some {
			k := queue.KindOf(it.Msg.GetType())
			if k != kind {
				if err := gs.offer(ctx, by, kind, received, wait, refuse); err != nil {
					return err
				}
				kind, received = k, run[:0]
			}
			in := gs.inboxOf(found[i], n, k, it, refuse)
			if in == nil {
				continue
			}
			received = append(received, fair.Received{Inbox: in, Msg: it.Msg, Size: it.Size, Coalesced: wire.IsCoalesced(it.Msg)})
		}
		if err := gs.offer(ctx, by, kind, received, wait, refuse); err != nil {
			return err
		}
	}
	return nil
}

// readGroups reads memory that is needed to find the inboxes of messages, and to use them: see readAhead.
func readGroups(found []*Group, items []stream.GroupItem) (sum uint64) {
	for i, g := range found {
		if g == nil {
			continue
		}
		if r := g.find(items[i].Msg.GetFrom()); r != nil && r.in.control.Share != nil {
			sum++
		}
	}
	return sum
}

// offer gives messages of one kind to their inboxes. Appends of a stream wait.
func (gs *Groups) offer(ctx context.Context, by *fair.Stream, k queue.Kind, all []fair.Received, wait time.Duration, refuse refuser) error {
	if k != queue.Append {
		by = nil
	}
	for len(all) > 0 {
		faultpoint.Hit(faultpoint.GroupSorted)
		n, v := gs.pools[k].OfferAll(by, all)
		if n == len(all) {
			return nil
		}
		one, err := all[n], v.Err()
		if all = all[n+1:]; v == queue.Down {
			err = errs.ErrPeerRemoved
		}
		if by != nil {
			err = gs.pools[k].OfferWait(ctx, by, one.Inbox, one.Msg, one.Size, wait)
		}
		if err == nil {
			continue
		}
		if !errors.Is(err, errs.ErrPeerRemoved) { // the node has no part in that
			one.Inbox.Share.Drops.Drop(1, member.ReasonOf(err))
		}
		refused(k, one)
		one.Inbox.Owner.(*sender).group.refuse(one.Msg, err, refuse)
		if by != nil && ctx.Err() != nil {
			refused(k, all...)
			return err // so that the sender's raft is told
		}
	}
	return nil
}

// refused says of messages that no inbox has taken them.
func refused(k queue.Kind, all ...fair.Received) {
	for i := range all {
		all[i].Inbox.Owner.(*sender).refused(k, all[i].Msg.GetFrom())
	}
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

// inboxOf returns the inbox for a message of this kind from a node, which is nil for one that is not known, or nil if the message is
// refused. g is nil if the group is not here.
func (gs *Groups) inboxOf(g *Group, n *node, k queue.Kind, it stream.GroupItem, refuse refuser) (in *fair.Inbox) {
	if g == nil {
		gs.unknown.Add(1)
		refuse(it.Group, it.Msg, wire.NoSuchGroup)
		return nil
	}
	r, ok := gs.authorize(g, n, it, refuse)
	if !ok {
		return nil
	}
	from := it.Msg.GetFrom()
	s := g.from(k, from, r, n)
	if s == nil { // it was added just now
		return gs.inboxOf(g, n, k, it, refuse)
	}
	if in = s.box(k); in == nil { // the replica has ended
		s.refused(k, from)
		g.refuse(it.Msg, errs.ErrPeerRemoved, refuse)
	}
	return in
}
