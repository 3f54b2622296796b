package rafthttp

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/internal/callback"
	"github.com/seed-4d73690b/rafthttp/internal/conn"
	"github.com/seed-4d73690b/rafthttp/internal/faultpoint"
	"github.com/seed-4d73690b/rafthttp/internal/member"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
	"github.com/seed-4d73690b/rafthttp/internal/stream"
)

// Paths that Handler serves.
const (
	RaftPrefix         = protocol.RaftPath
	ProbingPrefix      = protocol.ProbingPath
	RaftStreamPrefix   = protocol.StreamPath
	RaftSnapshotPrefix = protocol.SnapshotPath
)

// Handler returns the handler for other members: mount it on RaftPrefix and
// RaftPrefix + "/" of the server that listens on the member's peer URLs. It may
// be mounted before Start and answers 503 until then, and after Stop: also to a
// probe, which otherwise reports that the member is healthy.
//
// The handlers of a Transport keep no goroutine for a stream on HTTP/1.1: they
// take the connection over from the server.
func (t *Transport) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle(RaftPrefix, &handler{t, protocol.EndpointPost, http.MethodPost, (*request).servePost})
	mux.Handle(RaftStreamPrefix+"/", &handler{t, protocol.EndpointStreams, http.MethodGet, (*request).serveStream})
	mux.Handle(RaftSnapshotPrefix, &handler{t, protocol.EndpointSnapshot, http.MethodPost, (*request).serveSnapshot})
	mux.Handle(protocol.OffsetPath, &handler{t, protocol.EndpointOffset, http.MethodGet, (*request).serveSnapshotOffset})
	mux.Handle(protocol.GroupsPath, &handler{t, protocol.EndpointGroupPost, http.MethodPost, (*request).serveGroups})
	mux.Handle(protocol.GroupSnapshotPath, &handler{t, protocol.EndpointSnapshot, http.MethodPost, (*request).serveGroupSnapshot})
	mux.Handle(protocol.GroupSnapshotPath+protocol.OffsetOf, &handler{t, protocol.EndpointOffset, http.MethodGet, (*request).serveGroupOffset})
	mux.Handle(ProbingPrefix, &handler{t, protocol.EndpointProbe, "", (*request).serveProbe})
	return &ownHandler{mux, t}
}

// serveProbe answers with the time (PROTOCOL.md, section 1).
func (q *request) serveProbe() error {
	protocol.WriteProbeAnswer(q.w, time.Now())
	return nil
}

// answer answers the request with err.
func (q *request) answer(err error) {
	if errors.Is(err, http.ErrAbortHandler) {
		return // there is no client to answer
	}
	// The server may want the rest of the body before it sends the answer.
	_ = q.rc.SetReadDeadline(time.Now().Add(q.engine.cfg.ReadTimeout))
	if failed := (*protocol.ProcessError)(nil); errors.As(err, &failed) {
		var wt interface{ WriteTo(http.ResponseWriter) }
		if errors.As(failed.Err, &wt) {
			q.writeAnswer(wt)
			return
		}
		if failed.Drop {
			q.w.Header().Set("Connection", "close")
		}
	}
	if errors.Is(err, protocol.ErrTooManySnapshots) || errors.Is(err, protocol.ErrBusyPosts) || errors.Is(err, ErrQueueFull) {
		q.w.Header().Set("Retry-After", "1")
	}
	code, body := protocol.AnswerOf(err, q.at)
	q.logFailure(err, code)
	http.Error(q.w, body, code)
}

// logFailure logs failures that may need action by an operator, once a minute for each
// status and member.
func (q *request) logFailure(err error, code int) {
	from := q.from
	if from == 0 { // refused before any check
		from, _ = protocol.SenderIn(q.r.Header)
	}
	logged := &q.engine.refusals
	if p := q.engine.peerOf(q.from); p != nil {
		logged = &p.member.Refusals // unauthenticated clients cannot use it up
	}
	if q.left || !logged.First(member.Refusal{From: from, Code: code}) {
		return
	}
	if refusal := (*protocol.IdentityRefusal)(nil); errors.As(err, &refusal) {
		err = fmt.Errorf("%w: %w", refusal, refusal.Cause)
	}
	log := q.engine.cfg.Log.With(zap.String("remote-peer-id", from.String()))
	if q.from != 0 {
		if m := q.engine.cfg.Notifiers.AcquireForRequest(q.from); m != nil {
			defer q.engine.cfg.Notifiers.Release(q.from, m)
			log = m.Log // in order with all other lines about the member
		}
	}
	log.Warn("refused a request of a member; further ones like it are not logged for a while",
		zap.String("path", protocol.FirstLine(q.r.URL.Path)), zap.String("remote-addr", q.r.RemoteAddr), zap.Int("status", code), zap.Error(err))
}

// passedOn reports whether the requester forwarded a message of another member. The sender
// of a request without an id is the From of the message.
func (q *request) passedOn(m *raftpb.Message) bool {
	return q.from != 0 && m.GetFrom() != uint64(q.from)
}

// servePost receives one message (PROTOCOL.md, sections 1 and 3.6).
func (q *request) servePost() error {
	if err := q.rememberRemote(); err != nil {
		return err
	}
	p := q.engine.peerOf(q.from)
	post := q.engine.postLimit.Begin(q.from, p != nil)
	if post == nil {
		p.dropUnread()
		return protocol.ErrBusyPosts
	}
	defer post.End()
	body := conn.NewRequestBody(q.engine.ctx, q.r.Body, q.r.ContentLength, q.engine.cfg.ReadTimeout, q.rc.SetReadDeadline)
	body.RequireRate(q.engine.cfg.PostTimeout())
	if q.r.ProtoMajor > 1 {
		body.RemoveDeadlines()
	}
	defer body.Release()
	m, err := post.Read(body, q.engine.cfg.MessageLimits)
	if errors.Is(err, protocol.ErrBusyPosts) {
		p.dropUnread()
		q.w.Header().Set("Connection", "close")
		return err
	}
	if errors.Is(body.Err(), ErrStopped) { // not a fault of the message
		q.w.Header().Set("Connection", "close")
		return ErrStopped
	}
	if err != nil {
		p.dropUnread()
		return q.badBody("failed to read raft message", err)
	}
	if err := q.authorize(m); err != nil {
		return err
	}
	if !post.WasRead(queue.KindOf(m.GetType())) {
		p.dropPost(m, ErrQueueFull)
		return protocol.ErrBusyPosts
	}
	if q.isPaused() {
		p.dropPost(m, ErrPaused)
		return ErrPaused
	}
	if p != nil {
		p.answered(m)
		p.member.Counters.Posted.Add(uint64(body.BytesRead()))
	}
	if f := q.engine.cfg.Observer.Received; f != nil {
		c := q.engine.cfg.Guard.Begin(callback.Call{Name: "Observer.Received", Peer: q.from})
		f(q.from, lanePost, 1, body.BytesRead())
		q.engine.cfg.Guard.End(c)
	}
	if err := q.deliver(m, lanePost, q.engine.cfg.PostTimeout(), post.Queued); err != nil {
		return err
	}
	faultpoint.Hit(faultpoint.PostProcessed)
	if q.r.Context().Err() != nil {
		q.w.Header().Set("Connection", "close") // the next POST would fail
	}
	q.succeed()
	return nil
}

// succeed answers a request whose message was processed, and counts it as activity of the
// peer, as the sender does the answer.
func (q *request) succeed() {
	if p := q.engine.peerOf(q.from); p != nil {
		p.member.Activity.PostOf()
	}
	q.w.WriteHeader(http.StatusNoContent)
}

// badBody refuses a request because of its body, and closes the connection:
// the start of the next request is unknown.
func (q *request) badBody(text string, err error) error {
	q.w.Header().Set("Connection", "close")
	return protocol.BadRequest("%s: %s", text, err)
}

// serveStream gives the requester a stream to read (PROTOCOL.md, sections 1 and
// 3.5).
func (q *request) serveStream() error {
	at, from, err := protocol.StreamOf(q.r.URL.Path)
	if err != nil {
		return err
	}
	if q.from != from {
		return protocol.BadRequest("header %s differs from the path", protocol.HeaderFrom)
	}
	kind := stream.KindAt(at)
	if at&protocol.EndpointGroupStreams != 0 {
		return q.serveGroupStream(kind)
	}
	if err := q.unlessRemoved(from, protocol.ErrMemberGone); err != nil {
		return err
	}
	p := q.engine.peerOf(from)
	if p == nil {
		if err := q.rememberRemote(); err != nil {
			return err
		}
		return ErrMemberUnknown
	}
	if err := q.engine.cfg.Self.CheckTo(q.r.Header); err != nil {
		return err
	}
	p.member.SawVersion(q.r.Header)
	if p.member.SawCertificate(q.r.TLS) {
		p.probe.Hurry() // which dials, for CertificateExpires
		p.probeIfDue()
	}
	return q.lend(p.member, kind, peerStream{p, p.writers[kind]})
}

// lend gives the requester a stream that w writes.
func (q *request) lend(m *member.Member, kind stream.Kind, w streamWriter) error {
	if err := q.serveHijacked(m, kind, w); !errors.Is(err, conn.ErrNotHijacked) {
		return err
	}
	return q.serveResponse(kind, w)
}
