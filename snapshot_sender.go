package rafthttp

import (
	"net/url"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/callback"
	"github.com/seed-4d73690b/rafthttp/internal/loglimit"
	"github.com/seed-4d73690b/rafthttp/internal/member"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
	"github.com/seed-4d73690b/rafthttp/internal/snapshot"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// snapshotSender transfers snapshots to one peer, and acts on the results: it
// implements snapshot.Peer and snapshot.Events.
type snapshotSender struct {
	member.SnapshotPeer
	member   *member.Member
	sender   *snapshot.Sender
	of       *peer
	settings *snapshotSettings
}

func newSnapshotSender(l *member.Member, settings *snapshotSettings, pace *snapshot.Pace, of *peer) *snapshotSender {
	s := &snapshotSender{SnapshotPeer: member.SnapshotPeer{Of: l, Path: protocol.SnapshotPath}, member: l, settings: settings, of: of}
	s.sender = snapshot.NewSender(snapshot.SenderConfig{
		Config: settings.transfer, To: l.RemoteID, Sent: new(snapshot.Account), Bytes: &l.Counters.SentSnapshots,
		Peer: s, Events: s, Pace: pace,
		Ctx: l.Ctx, Enter: l.Enter, Leave: l.Wait.Done, Log: l.Log, Lines: loglimit.PerMinute(callback.MemberLines),
		Full: ErrQueueFull, Dropped: ErrPaused,
	})
	return s
}

// send starts a transfer in the background. It returns false, and leaves m
// alone, if the peer has ended.
func (s *snapshotSender) send(m *snap.Message) bool {
	if s.member.SnapshotsBegan(1); s.member.Paused.Load() {
		return s.sender.Send(m, ErrPaused)
	}
	return s.sender.Send(m, nil)
}

// Busy implements snapshot.Peer.
func (s *snapshotSender) Busy() bool { return s.of.routes.StreamsBusy() }

// Observe implements snapshot.Events.
func (s *snapshotSender) Observe(p *snapshot.Progress) func(snapshot.Status) {
	return s.settings.observeProgress(s.member.Events, p)
}

// Succeeded implements snapshot.Events.
func (s *snapshotSender) Succeeded(began time.Time) { s.member.Activity.PostOK(began) }

// Failed implements snapshot.Events.
func (s *snapshotSender) Failed(at url.URL, began time.Time, err error) {
	s.member.URLs.Unreachable(at)
	s.member.Activity.PostFailed(began, err)
	s.member.Reports.Unreachable()
}

// Done implements snapshot.Events: it makes the only report.
func (s *snapshotSender) Done(m *raftpb.Message, st snapshot.Status, err error) {
	if err != nil {
		s.member.Counters.FailedSnapshots.Add(1)
	} else {
		s.of.routes.SnapshotTaken(m)
	}
	s.member.SnapshotEnded(err)
	snapshotEnded(s.member.Events, s.settings.sent, st, err)
}
