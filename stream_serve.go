package rafthttp

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/conn"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
)

// suspectBeat is how often a heartbeat is written on a stream whose request
// context ended, to find out whether its client is still there.
const suspectBeat = 300 * time.Millisecond

// hijack takes the connection over for a stream to the peer, and writes the head of an
// answer whose body ends with the connection. After any error but conn.ErrNotHijacked the
// connection is closed.
func (q *request) hijack(p *peer, kind streamKind) (*outgoingConn, net.Conn, error) {
	if q.r.ProtoMajor != 1 {
		return nil, nil, conn.ErrNotHijacked
	}
	raw, err := conn.HijackStream(q.engine.ctx, q.rc, protocol.StreamHead(q.w.Header(), time.Now()), q.engine.cfg.WriteTimeout, q.engine.cfg.TCPTimeout())
	if err != nil {
		return nil, nil, err
	}
	// To close the connection is a part of the member, as is the caller of Close.
	s := conn.NewHijackedStream(raw, pieceBytes, p.member.Wait.Go)
	return newOutgoingConn(kind, s, q.r.TLS), raw, nil
}

// serveHijacked takes the connection over and lends it to the writer.
func (q *request) serveHijacked(p *peer, kind streamKind) error {
	if !p.member.Enter() { // so that what is done with the connection is a part of the member
		return ErrMemberUnknown
	}
	defer p.member.Wait.Done()
	c, raw, err := q.hijack(p, kind)
	if errors.Is(err, conn.ErrNotHijacked) {
		return err
	}
	if err != nil {
		if errors.Is(err, conn.ErrNoDeadlines) { // there is no answer any more that could say so
			q.logFailure(fmt.Errorf("%w: %w", protocol.ErrNoStream, err), http.StatusNotImplemented)
		}
		return http.ErrAbortHandler
	}
	if p.attachOutgoingConn(c) && !p.member.Spawn(func() { p.watch(c, raw) }) {
		c.stream.Close()
	}
	return nil
}

// watch ends a hijacked stream when its client goes, or says anything.
func (p *peer) watch(c *outgoingConn, raw net.Conn) {
	if err := c.stream.Watch(raw); err != nil {
		p.writers[c.kind].detach(c, err)
	}
}

// serveResponse lends the response to the writer until the stream ends. Behind a
// listener with read deadlines the request's context ends on a healthy stream;
// only a failed write then tells that the client is gone.
func (q *request) serveResponse(p *peer, kind streamKind) error {
	err := conn.BeginResponse(q.r.Context(), q.w, q.engine.cfg.WriteTimeout)
	if errors.Is(err, http.ErrAbortHandler) {
		return err
	}
	if err != nil {
		return fmt.Errorf("%w: %w", protocol.ErrNoStream, err)
	}
	c := newOutgoingConn(kind, conn.NewResponseStream(q.w, pieceBytes), q.r.TLS)
	w := p.writers[kind]
	p.attachOutgoingConn(c)
	defer func() {
		c.stream.Close() // or waits for one under way: both use the response
		c.stream.Quiesce()
	}()
	select {
	case <-c.stream.Gone():
		return nil
	case <-q.engine.ctx.Done():
		w.detach(c, ErrStopped)
		return nil
	case <-q.r.Context().Done():
	}
	beat := time.NewTicker(suspectBeat)
	defer beat.Stop()
	for {
		w.heartbeat()
		select {
		case <-c.stream.Gone():
			return nil
		case <-q.engine.ctx.Done():
			w.detach(c, ErrStopped)
			return nil
		case <-beat.C:
		}
	}
}

// renews reports whether the client has dialled c with another certificate than
// the older connection, or with another chain.
func (c *outgoingConn) renews(old *outgoingConn) bool {
	now, before := shownOn(c.state), shownOn(old.state)
	return len(now) > 0 && len(before) > 0 && !slices.EqualFunc(now, before, (*x509.Certificate).Equal)
}

// shownOn returns the certificates that the other end showed.
func shownOn(state *tls.ConnectionState) []*x509.Certificate {
	if state == nil {
		return nil
	}
	return state.PeerCertificates
}

// handoverGrace is how long a connection that a newer one replaced has to end
// the batch that is being written to it.
const handoverGrace = 500 * time.Millisecond

// closeAfterDrain closes a connection that was replaced between two batches: a peer
// that is alive reads it to its end, and goes on with the newer one. A stuck
// connection is closed after handoverGrace.
func (w *streamWriter) closeAfterDrain(old *outgoingConn) {
	grace := time.NewTimer(handoverGrace)
	wait := func() {
		defer grace.Stop()
		select {
		case <-old.stream.Gone():
		case <-grace.C:
		case <-w.member.Ctx.Done():
		}
		old.stream.Close()
	}
	if !w.member.Spawn(wait) {
		grace.Stop()
		old.stream.Close()
	}
}
