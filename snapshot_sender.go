package rafthttp

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/callback"
	"github.com/seed-4d73690b/rafthttp/internal/conn"
	"github.com/seed-4d73690b/rafthttp/internal/loglimit"
	"github.com/seed-4d73690b/rafthttp/internal/member"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
	"github.com/seed-4d73690b/rafthttp/internal/snapshot"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// snapshotSender transfers snapshots to one peer, and acts on the results: it
// implements snapshot.Peer and snapshot.Events.
type snapshotSender struct {
	member   *member.Member
	sender   *snapshot.Sender
	of       *peer
	settings *snapshotSettings
}

func newSnapshotSender(l *member.Member, settings *snapshotSettings, pace *snapshot.Pace, of *peer) *snapshotSender {
	s := &snapshotSender{member: l, settings: settings, of: of}
	s.sender = snapshot.NewSender(snapshot.SenderConfig{
		Config: settings.transfer, To: l.RemoteID, Bytes: &l.Counters.SentSnapshots,
		Peer: s, Events: s, Pace: pace,
		Ctx: l.Ctx, Spawn: l.Spawn, Log: l.Log, Lines: loglimit.PerMinute(callback.MemberLines),
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

// URL implements snapshot.Peer.
func (s *snapshotSender) URL() url.URL { return s.member.URLs.Pick() }

// Dial implements snapshot.Peer.
func (s *snapshotSender) Dial(ctx context.Context, u url.URL, wrap func(net.Conn) net.Conn) (net.Conn, *url.URL, error) {
	target, err := conn.RequestURL(u, RaftSnapshotPrefix)
	if err != nil {
		return nil, nil, err
	}
	c, err := s.member.Dialer.ConnectOver(ctx, u, wrap)
	if err != nil {
		return nil, nil, conn.CauseOf(ctx, err)
	}
	conn.GiveWay(c)
	return c, target, nil
}

// BePatient implements snapshot.Peer.
func (s *snapshotSender) BePatient(c net.Conn, d time.Duration) {
	conn.GiveUpAfter(c, max(s.member.Cfg.TCPTimeout(), d))
}

// Header implements snapshot.Peer.
func (s *snapshotSender) Header() http.Header { return s.member.Cfg.RequestHeader() }

// Conclude implements snapshot.Peer.
func (s *snapshotSender) Conclude(resp *http.Response, question bool) error {
	if question {
		return s.member.Cfg.Conclude(resp, protocol.EndpointOffset)
	}
	return s.member.Cfg.Conclude(resp, protocol.EndpointSnapshot)
}

// Busy implements snapshot.Peer.
func (s *snapshotSender) Busy() bool { return s.of.routes.StreamsBusy() }

// Observe implements snapshot.Events.
func (s *snapshotSender) Observe(p *snapshot.Progress) func(snapshot.Status) {
	return s.settings.observeProgress(s.member.Events, p)
}

// Succeeded implements snapshot.Events.
func (s *snapshotSender) Succeeded() { s.member.Activity.PostOK() }

// Failed implements snapshot.Events.
func (s *snapshotSender) Failed(at url.URL, err error) {
	s.member.URLs.Unreachable(at)
	s.member.Activity.PostFailed(time.Now(), err)
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
