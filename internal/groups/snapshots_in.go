package groups

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net/http"
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
	"github.com/seed-4d73690b/rafthttp/internal/snapshot"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// snapshotLane is the name of the lane of snapshots.
const snapshotLane = "snapshot"

// asked returns the group that a request of a node is for, which may be removed meanwhile. Such a request never concerns
// the Transport's own members.
func (gs *Groups) asked(from types.ID, h http.Header) (*Group, error) {
	id, err := protocol.GroupIn(h)
	if err != nil {
		return nil, err
	}
	if from == 0 {
		return nil, protocol.BadRequest("no %s", protocol.HeaderFrom)
	}
	if err := gs.node.Self.CheckTo(h); err != nil {
		return nil, err
	}
	gs.mu.RLock()
	defer gs.mu.RUnlock()
	if g := gs.all[id]; g != nil {
		return g, nil
	}
	return nil, protocol.ErrGroupUnknown
}

// SnapshotOffset answers how much of a database is present (extensions: snapshots of groups). The answer states the
// extensions of the group: by them, and its status, its sender knows whether it is resumed.
func (gs *Groups) SnapshotOffset(from types.ID, h, answer http.Header) (offset int64, sum uint32, err error) {
	if answer.Del(protocol.HeaderExtensions); gs.Used() {
		answer.Set(protocol.HeaderExtensions, protocol.GroupExtensions(false, false))
	}
	g, err := gs.asked(from, h)
	if err != nil {
		return 0, 0, err
	}
	if !g.begin() {
		return 0, 0, protocol.ErrGroupUnknown
	}
	defer g.finish()
	store := g.app.Store
	if store == nil {
		return 0, 0, protocol.ErrNoSnapshotter
	}
	answer.Set(protocol.HeaderExtensions, protocol.GroupExtensions(true, store.Resumes()))
	question, err := protocol.SnapshotQuestionIn(h, from)
	switch {
	case err != nil:
		return 0, 0, err
	case store.Resumes():
		return g.receiver().Offset(g.context(), question, store.PartialDB(from))
	case g.receiver().Busy(from):
		return 0, 0, protocol.ErrTooManySnapshots
	}
	return 0, 0, protocol.ErrNotResuming
}

// ReceiveSnapshot saves the database of a group, and after that processes the message at its head. Its error is the answer.
func (gs *Groups) ReceiveSnapshot(r snapshot.Request) error {
	g, err := gs.asked(r.Sender(), r.Header())
	if err != nil {
		return err
	}
	if !g.begin() {
		return protocol.ErrGroupUnknown
	}
	defer g.finish()
	if g.app.Store == nil {
		return protocol.ErrNoSnapshotter
	}
	in := &incomingSnapshot{Request: r, group: g, saving: g.app.Store.Begin(r.Sender())}
	n := gs.nodeOf(r.Sender())
	if err := g.receiveFrom(n, in); err != nil {
		return err
	}
	if n != nil {
		n.member.Activity.PostOf()
	}
	return nil
}

// receiveFrom saves a database from a node, nil for one that is not known, and tells who wants to know of that.
func (g *Group) receiveFrom(n *node, in *incomingSnapshot) error {
	gs, of := g.groups, in.Sender()
	to := gs.node.Notifiers.AcquireForRequest(of)
	if to != nil {
		defer gs.node.Notifiers.Release(of, to)
	}
	var transfer *snapshot.Progress
	st, began, err := g.receiver().Receive(g.context(), in, func(p *snapshot.Progress) func(snapshot.Status) {
		if transfer = p; n != nil {
			n.received.Receiving(p)
		}
		if to == nil {
			return nil
		}
		return gs.cfg.Snapshots.Observe(to.Events, p)
	})
	if n != nil && transfer != nil {
		n.received.Received(transfer, st, began, err)
	}
	if began && to != nil {
		gs.cfg.Snapshots.Ended(to.Events, st)
	}
	return err
}

// receiver returns the receiver of the group's snapshots.
func (g *Group) receiver() *snapshot.Receiver {
	if r := g.receiving.Load(); r != nil {
		return r
	}
	g.receiving.CompareAndSwap(nil, g.groups.cfg.Snapshots.Receiver.Of(g.id))
	return g.receiving.Load()
}

// CutSnapshots interrupts the unwanted transfers to us, as Receiver.Cut does.
func (gs *Groups) CutSnapshots(spawn func(func()) bool, unwanted func(sender types.ID, over *tls.ConnectionState) bool) {
	var all []*snapshot.Receiver
	gs.mu.RLock()
	for _, g := range gs.all {
		if r := g.receiving.Load(); r != nil {
			all = append(all, r)
		}
	}
	gs.mu.RUnlock()
	for _, r := range all {
		r.Cut(spawn, unwanted)
	}
}

// incomingSnapshot is a snapshot of a group. It implements snapshot.Incoming.
type incomingSnapshot struct {
	snapshot.Request
	group  *Group
	saving *callback.Saving
}

// Resumes implements snapshot.Incoming.
func (in *incomingSnapshot) Resumes() error {
	if !in.group.app.Store.Resumes() {
		return protocol.ErrNotResuming
	}
	return nil
}

// Authorize implements snapshot.Incoming.
func (in *incomingSnapshot) Authorize(m *raftpb.Message) error {
	err := in.authorize(m)
	in.group.dropIf(err)
	return err
}

func (in *incomingSnapshot) authorize(m *raftpb.Message) error {
	if err := in.CheckNotRevoked(); err != nil {
		return err
	}
	g, from := in.group, m.GetFrom()
	r := g.find(from)
	err := g.groups.node.AuthorizeReplica(m, g.self, g.mayBeFrom(from, r, g.groups.nodeOf(in.Sender())))
	if errors.Is(err, protocol.ErrIdentity) {
		g.groups.node.RefuseOther(member.IdentityCounts{Messages: 1})
		return &protocol.IdentityRefusal{Text: "message is not of the member that sends it", Cause: err}
	}
	if err != nil || r != nil {
		return err
	}
	removed, err := g.isRemoved(from)
	if removed {
		return protocol.ErrMemberGone
	}
	return err
}

// Began implements snapshot.Incoming.
func (in *incomingSnapshot) Began(index uint64) (*zap.Logger, *atomic.Uint64) {
	gs := in.group.groups
	lines, bytes := gs.lines, (*atomic.Uint64)(nil)
	if n := gs.nodeOf(in.Sender()); n != nil {
		lines, bytes = n.snapshotLines, &n.member.Counters.GotSnapshots // unauthenticated clients cannot use them up
	}
	log := gs.node.Log.With(zap.String("remote-peer-id", in.Sender().String()), zap.Uint64("group", in.group.id), zap.Uint64("snapshot-index", index))
	return snapshot.TransferLog(lines, log), bytes
}

// Saver implements snapshot.Incoming.
func (in *incomingSnapshot) Saver(m *raftpb.Message, size int64) (snap.Saver, error) {
	return in.saving.Saver(in.group.context(), snapshotLane, m, size)
}

// Process implements snapshot.Incoming.
func (in *incomingSnapshot) Process(m *raftpb.Message) error {
	if err := in.Authorize(m); err != nil { // again: saving took a while
		return err
	}
	r, n := in.group.find(m.GetFrom()), in.group.groups.nodeOf(in.Sender())
	passedOn := r != nil && r.node != n
	from := in.group.from(queue.Append, m.GetFrom(), r, n)
	if from == nil { // it was added just now
		return in.Process(m)
	}
	o := in.group.deliver(m, from)
	if errors.Is(o.Err, errAdded) {
		return in.Process(m)
	}
	if o.Processed && o.Err != nil {
		return &protocol.ProcessError{Err: o.Err, PassedOn: passedOn}
	}
	return o.Err
}

// Discard implements snapshot.Incoming. The group waits for the request.
func (in *incomingSnapshot) Discard(index uint64, cause error) { in.saving.Discard(index, cause) }

// dropIf counts a MsgSnap that Process does not get, unless cause is nil.
func (g *Group) dropIf(cause error) {
	if cause != nil {
		g.drop(1, cause)
	}
}

// deliver gives a MsgSnap to the inbox of its sender, and waits for the result, or why there is none.
func (g *Group) deliver(m *raftpb.Message, from *sender) queue.Outcome {
	ctx, cancel := context.WithTimeoutCause(g.context(), g.groups.cfg.Snapshots.Config.AnswerTimeout, errs.ErrStalled)
	defer cancel()
	id := m.GetFrom()
	in := from.box(queue.Append)
	if in == nil {
		from.refused(queue.Append, id)
		g.dropIf(errs.ErrPeerRemoved)
		return queue.Outcome{Err: errs.ErrPeerRemoved}
	}
	ticket := queue.NewTicket(ctx, snapshotLane)
	g.groups.tickets.Store(m, ticket)
	if err := g.offerSnapshot(ctx, in, m); err != nil {
		g.groups.tickets.Delete(m)
		from.refused(queue.Append, id)
		from.drop(queue.Append, err)
		return queue.Outcome{Err: err}
	}
	select {
	case o := <-ticket.Outcome():
		return o
	case <-ctx.Done():
	}
	if !ticket.Claim() {
		return <-ticket.Outcome() // Process returns soon
	}
	return queue.Outcome{Err: context.Cause(ctx)} // the worker that finds m drops it
}

// offerSnapshot gives m to an inbox. The database is there, so it waits longer than an append for room, and holds up nobody: until
// AnswerTimeout has passed.
func (g *Group) offerSnapshot(ctx context.Context, in *fair.Inbox, m *raftpb.Message) error {
	again := time.NewTicker(queue.PollInterval)
	defer again.Stop()
	for {
		err := g.groups.pools[queue.Append].OfferWait(ctx, nil, in, m, wire.MemorySize(m), g.groups.node.ReadTimeout)
		if !errors.Is(err, errs.ErrQueueFull) && !errors.Is(err, errs.ErrMemoryLimit) {
			return err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return cmp.Or(context.Cause(g.context()), err)
		}
	}
}

// ticketOf returns the ticket of the request that has brought m, or nil. It is called once for each message that an
// inbox has accepted.
func (gs *Groups) ticketOf(m *raftpb.Message) *queue.Ticket {
	if m.GetType() != raftpb.MsgSnap {
		return nil
	}
	if t, ok := gs.tickets.LoadAndDelete(m); ok {
		return t.(*queue.Ticket)
	}
	return nil
}

// errAdded tells a request that the replica that sent its message was added while it waited, and that the message did not get to it: it is to be
// delivered again.
var errAdded = errors.New("the replica was added meanwhile")

// refuseWaiting tells a request that its message is not processed. It returns false if no request waits for that.
func (gs *Groups) refuseWaiting(m *raftpb.Message, cause error) bool {
	t := gs.ticketOf(m)
	if t == nil || !t.Claim() {
		return false
	}
	t.Finish(queue.Outcome{Err: cause})
	return true
}
