package rafthttp

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/internal/conn"
	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/member"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
	"github.com/seed-4d73690b/rafthttp/internal/snapshot"
)

// This file is the entry for messages from other members. The path of such a message is: socket → wire →
// door → queue → Process. ServeHTTP parses, authenticates and checks requests; a message of a
// request passes authorize, one of a stream authorizeMessage; deliver gives it to its queue.

// handler serves an endpoint, and converts the error of serve to an answer.
type handler struct {
	t      *Transport
	at     protocol.Endpoint
	method string // "": any
	serve  func(*request) error
}

// request is one request being served.
type request struct {
	engine *engine
	at     protocol.Endpoint
	w      http.ResponseWriter
	r      *http.Request
	rc     *http.ResponseController
	from   types.ID // 0: not stated

	notServed bool // the path is not that of a stream

	taken *snapshot.Response // w, if the connection was taken over to read a snapshot
	left  bool               // the engine was stopped meanwhile, and does not wait for this request
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h.method != "" && r.Method != h.method {
		w.Header().Set("Allow", h.method)
		refuse(w, protocol.ErrMethodNotAllowed, h.at)
		return
	}
	e := h.t.engine.Load()
	if e == nil {
		refuse(w, protocol.ErrNotStarted, h.at)
		return
	}
	e.cfg.Self.StateIn(w.Header(), h.at)
	if !e.enter() {
		refuse(w, ErrStopped, h.at)
		return
	}
	q := &request{engine: e, at: h.at, w: w, r: r, rc: http.NewResponseController(w)}
	defer q.leave()
	defer q.finish()
	for _, step := range [...]func(*request) error{
		(*request).parseHeaders, (*request).authenticate, (*request).checkNotRevoked, h.serve,
	} {
		if err := step(q); err != nil {
			q.answer(err)
			return
		}
	}
}

// leave removes the request from the engine's count.
func (q *request) leave() {
	if !q.left {
		q.engine.leave()
	}
}

// refuse answers a request before any of it was checked.
func refuse(w http.ResponseWriter, err error, at protocol.Endpoint) {
	// The server may want the body before it sends the answer.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(DefaultConnReadTimeout))
	code, body := protocol.AnswerOf(err, at)
	http.Error(w, body, code)
}

// parseHeaders checks version and cluster of a request, and determines its sender,
// in the order of PROTOCOL.md, section 3. A probe does not state its sender.
func (q *request) parseHeaders() (err error) {
	if q.at == protocol.EndpointProbe {
		return nil
	}
	if err := q.engine.cfg.Self.CheckRequest(q.r.Header); err != nil {
		if errors.Is(err, ErrClusterIDMismatch) {
			q.engine.cfg.RefuseOther(member.IdentityCounts{OtherCluster: 1})
		}
		return err
	}
	if q.from, err = protocol.SenderIn(q.r.Header); err != nil {
		return err
	}
	if q.from == 0 && q.at&protocol.EndpointStreams != 0 {
		q.from, err = protocol.StreamClient(q.r.URL.Path)
		q.notServed = err != nil // such a path is answered 404 for any sender
	}
	return nil
}

// authenticate asks VerifyPeer whether the request is from its stated member.
func (q *request) authenticate() error {
	if q.at == protocol.EndpointProbe || q.notServed || q.engine.cfg.VerifyPeer == nil {
		return nil
	}
	if err := q.engine.cfg.VerifyPeer(q.from, q.r.TLS); err != nil {
		return q.refuseIdentity(err)
	}
	return nil
}

// refuseIdentity returns the refusal of a request. Its status depends on the
// endpoint.
func (q *request) refuseIdentity(cause error) error {
	q.engine.refused(q.from, member.IdentityCounts{Requests: 1})
	return &protocol.IdentityRefusal{Text: "certificate does not fit the member id", Cause: cause}
}

// refused counts a refusal of a request.
func (e *engine) refused(from types.ID, n member.IdentityCounts) {
	if p := e.peerOf(from); p != nil {
		p.member.Refuse(n)
	} else {
		e.cfg.RefuseOther(n)
	}
}

// checkNotRevoked returns an error if the certificate of the request was revoked, or has
// expired, since the connection was made.
func (q *request) checkNotRevoked() error {
	if validity, err := q.engine.cfg.Files.Validate(q.r.TLS, 0); validity >= conn.Outdated {
		q.w.Header().Set("Connection", "close")
		return q.refuseIdentity(err)
	}
	return nil
}

// isRemoved asks the application whether a member was removed. A server may call
// Stop under a lock that IsIDRemoved takes, so Stop does not wait for the request
// meanwhile, and waits for the answer at most removedGrace.
func (q *request) isRemoved(id types.ID) (bool, error) {
	if q.left || q.engine.ctx.Err() != nil { // while counted, the request may still start calls that Stop waits for
		return false, ErrStopped
	}
	q.engine.asking.Add(1)
	defer q.engine.asking.Done()
	q.engine.leave()
	removed := q.engine.cfg.Raft.IsIDRemoved(uint64(id))
	if q.left = !q.engine.enter(); q.left {
		return false, ErrStopped
	}
	return removed, nil
}

// authorize checks a message of a request after it was read, which may have taken a while.
func (q *request) authorize(m *raftpb.Message) error {
	if err := q.checkNotRevoked(); err != nil {
		return err
	}
	err := q.authorizeMessage(m)
	if err == nil {
		return nil
	}
	if p := q.engine.peerOf(q.from); p != nil {
		p.countRefused(m, err)
	}
	if errors.Is(err, ErrIdentity) {
		q.engine.refused(q.from, member.IdentityCounts{Messages: 1})
		return &protocol.IdentityRefusal{Text: "message is not of the member that sends it", Cause: err}
	}
	return err
}

// sender returns the sender of a message: as the request states it, or else as the
// message does.
func (q *request) sender(m *raftpb.Message) types.ID {
	if q.from != 0 {
		return q.from
	}
	return types.ID(m.GetFrom())
}

// authorizeMessage is Config.AuthorizeMessage for a request, whose sender may have been
// removed. VerifyPeer is called again for a request that states no id.
func (q *request) authorizeMessage(m *raftpb.Message) error {
	sender, author := q.sender(m), types.ID(m.GetFrom())
	if q.from == 0 && q.engine.cfg.VerifyPeer != nil {
		if err := q.engine.cfg.VerifyPeer(sender, q.r.TLS); err != nil {
			return fmt.Errorf("%w: %w", ErrIdentity, err)
		}
	}
	if err := q.engine.cfg.AuthorizeMessage(m, sender); err != nil {
		return err
	}
	if sender == author {
		return q.unlessRemoved(sender, protocol.ErrMemberGone)
	}
	if err := q.unlessRemoved(sender, errs.ErrOfRemoved); err != nil {
		return err
	}
	return q.unlessRemoved(author, errs.ErrOfRemoved)
}

// unlessRemoved returns refusal if a member was removed.
func (q *request) unlessRemoved(id types.ID, refusal error) error {
	if id == 0 {
		return nil
	}
	removed, err := q.isRemoved(id)
	if removed {
		return refusal
	}
	return err
}

// deliver gives an authorized message to the receive queue of its kind, and returns
// the error of Process, or why it was not called.
//
// It does not depend on the request's context: behind a listener with read deadlines
// that ends while the client still waits, and a saved database is useful even
// if its sender has disconnected.
func (q *request) deliver(m *raftpb.Message, source string, within time.Duration, queued func()) error {
	sender, passedOn := q.sender(m), q.passedOn(m) // m is not ours afterwards
	r, leave := q.engine.receiveQueues.Enter(sender, queue.KindOf(m.GetType()))
	defer leave()
	o := r.Deliver(m, source, within, queued)
	if o.Processed && o.Err != nil {
		// A fault of the message of a POST may be a fault of its connection.
		return &protocol.ProcessError{Err: o.Err, Drop: source == lanePost, PassedOn: passedOn}
	}
	return o.Err
}

// isPaused reports whether the sender is cut.
func (q *request) isPaused() bool {
	if p := q.engine.peerOf(q.from); p != nil {
		return p.member.Paused.Load()
	}
	return q.engine.remotes.IsPaused(q.from)
}

// refuse drops a message from a stream that is not for us, or not from the
// peer. The stream continues: raft may have been given, and forward, another
// member's message in good faith.
func (p *peer) refuse(m *raftpb.Message, cause error) {
	if errors.Is(cause, ErrIdentity) {
		p.member.Refuse(member.IdentityCounts{Messages: 1})
	}
	p.countRefused(m, cause)
	if p.member.RefusedLog.Due(time.Now()) {
		p.member.Log.Warn("refused a message of the peer; further ones are only counted for a while",
			zap.Stringer("type", m.GetType()), zap.String("from", types.ID(m.GetFrom()).String()),
			zap.String("to", types.ID(m.GetTo()).String()), zap.Error(cause))
	}
}

// countRefused counts a message of the peer that was refused.
func (p *peer) countRefused(m *raftpb.Message, cause error) {
	ln := p.receivers.Of(m.GetType()).Queue
	ln.Drop(1, member.ReasonOf(cause))
	p.member.Events.Dropped(ln.Name(), 1, cause)
}
