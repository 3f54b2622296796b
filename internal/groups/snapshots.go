package groups

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/internal/callback"
	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/faultpoint"
	"github.com/seed-4d73690b/rafthttp/internal/member"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
	"github.com/seed-4d73690b/rafthttp/internal/snapshot"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// Snapshots is what snapshots of groups have in common with those of the Transport's own members.
type Snapshots struct {
	Config   snapshot.Config
	Pace     *snapshot.Pace
	Receiver *snapshot.Receiver // those of the groups share its places
	// Observe returns the function to call with the progress of a transfer, or nil; Ended is called at the end of each.
	Observe func(to *callback.Events, of *snapshot.Progress) func(snapshot.Status)
	Ended   func(to *callback.Events, st snapshot.Status)
}

// snapshotSender sends snapshots to one replica (extensions: snapshots of groups). It implements snapshot.Peer and
// snapshot.Events.
type snapshotSender struct {
	member.SnapshotPeer
	replica *replica
	sender  *snapshot.Sender
	cancel  context.CancelCauseFunc // ends all transfers
}

func newSnapshotSender(r *replica) *snapshotSender {
	m, cfg := r.node.member, r.group().groups.cfg.Snapshots
	s := &snapshotSender{SnapshotPeer: member.SnapshotPeer{Of: m, Path: protocol.GroupSnapshotPath}, replica: r}
	var ctx context.Context
	ctx, s.cancel = context.WithCancelCause(m.Ctx)
	s.sender = snapshot.NewSender(snapshot.SenderConfig{
		Config: cfg.Config, To: m.RemoteID, Group: true, ID: r.group().id, Sent: &r.node.sent, Bytes: &m.Counters.SentSnapshots,
		Peer: s, Events: s, Pace: cfg.Pace,
		Ctx: ctx, Enter: m.Enter, Leave: m.Wait.Done, Log: m.Log.With(zap.Uint64("group", r.group().id)), Lines: r.node.snapshotLines,
		Full: errs.ErrQueueFull, Dropped: errs.ErrPaused,
	})
	return s
}

// end ends all transfers. It does not wait; the end of the group does.
func (s *snapshotSender) end() {
	s.cancel(errs.ErrPeerRemoved)
	s.sender.Close()
}

// Header implements snapshot.Peer.
func (s *snapshotSender) Header() http.Header {
	h := s.SnapshotPeer.Header()
	h.Set(protocol.HeaderRaftTo, s.Of.RemoteID.String())
	h.Set(protocol.HeaderGroup, strconv.FormatUint(s.replica.group().id, 10))
	return h
}

// Conclude implements snapshot.Peer.
func (s *snapshotSender) Conclude(resp *http.Response, question bool) error {
	err := s.SnapshotPeer.Conclude(resp, question)
	if errors.Is(err, protocol.ErrMemberRemoved) {
		s.replica.group().tellRemoved()
	}
	return err
}

// Busy implements snapshot.Peer.
func (s *snapshotSender) Busy() bool {
	for _, w := range s.replica.node.writers {
		if w.Queue.HasMessages() {
			return true
		}
	}
	return false
}

// Observe implements snapshot.Events.
func (s *snapshotSender) Observe(p *snapshot.Progress) func(snapshot.Status) {
	return s.replica.group().groups.cfg.Snapshots.Observe(s.Of.Events, p)
}

// Succeeded implements snapshot.Events.
func (s *snapshotSender) Succeeded(began time.Time) { s.Of.Activity.PostOK(began) }

// Failed implements snapshot.Events.
func (s *snapshotSender) Failed(at url.URL, began time.Time, err error) {
	s.Of.URLs.Unreachable(at)
	s.Of.Activity.PostFailed(began, err)
	s.replica.unreachable()
}

// Done implements snapshot.Events: it makes the only report.
func (s *snapshotSender) Done(_ *raftpb.Message, st snapshot.Status, err error) {
	if err != nil {
		s.Of.Counters.FailedSnapshots.Add(1)
	} else {
		s.replica.forgetAppends() // raft continues after the snapshot
	}
	s.replica.group().snapshotEnded(s.replica.id, err)
	s.replica.group().groups.cfg.Snapshots.Ended(s.Of.Events, st)
	s.replica.group().finish()
}

// SendSnapshot sends m to the replica in its To field, as Transport.SendSnapshot does. It does not block, and owns m.
func (g *Group) SendSnapshot(m *snap.Message) {
	if !g.begin() {
		go m.CloseWithError(errs.ErrStopped) // not joined, as the Transport's
		return
	}
	to := m.GetTo()
	ended := func(err error) { g.tellSnapshot(to, err) }
	if s := g.snapshotsTo(to); s != nil {
		faultpoint.Hit(faultpoint.GroupSnapshot)
		if g.snapshotBegan(to); s.sender.Send(m, nil) {
			return // Done follows
		}
		ended = func(err error) { // it is removed
			g.snapshotEnded(to, err)
			g.hurrySnapshots(to)
		}
	}
	refuse := func() {
		snapshot.Close(m, protocol.ErrMemberUnknown, g.groups.node.Log)
		ended(protocol.ErrMemberUnknown)
		g.finish()
	}
	if !g.groups.spawn(refuse) {
		ended(errs.ErrStopped)
		g.finish()
		go m.CloseWithError(errs.ErrStopped) // not joined, as the Transport's
	}
}

// snapshotsTo returns the sender of snapshots to a replica, or nil if there is no such replica.
func (g *Group) snapshotsTo(id uint64) *snapshotSender {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := g.find(id)
	if r == nil {
		return nil
	}
	if r.snapshots == nil {
		r.snapshots = newSnapshotSender(r)
	}
	return r.snapshots
}
