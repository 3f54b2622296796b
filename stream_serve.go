package rafthttp

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/closeconn"
	"github.com/seed-4d73690b/rafthttp/internal/conn"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
)

// hijackPause is how long net/http has to begin a read that Hijack interrupts.
const hijackPause = 2 * time.Millisecond

// suspectBeat is how often a heartbeat is written on a stream whose request
// context ended, to find out whether its client is still there.
const suspectBeat = 300 * time.Millisecond

// errNotHijacked says that the server, or what wraps its response, does not hand the
// connection over. Nothing was written.
var errNotHijacked = errors.New("the connection cannot be hijacked")

// hijack takes the connection over for a stream to the peer, and writes the head of an
// answer whose body ends with the connection. After any error but errNotHijacked the
// connection is closed.
func (q *request) hijack(p *peer, kind streamKind) (*outgoingConn, net.Conn, error) {
	if q.r.ProtoMajor != 1 {
		return nil, nil, errNotHijacked
	}
	q.pauseBeforeHijack()
	hijacked, buf, err := q.rc.Hijack()
	if errors.Is(err, http.ErrHijacked) {
		return nil, nil, err
	}
	if err != nil {
		return nil, nil, errNotHijacked
	}
	raw := conn.Release(hijacked)
	if buf.Reader.Buffered() > 0 { // a client of a stream has nothing to say
		closeconn.Close(raw)
		return nil, nil, errUnexpectedData
	}
	conn.SetTimeouts(raw, q.engine.cfg.tcpTimeout()) // the listener may be anybody's
	conn.LimitStreamBuffer(raw)
	if err := q.writeStreamHead(raw); err != nil {
		closeconn.Close(raw)
		return nil, nil, err
	}
	// To close the connection is a part of the member, as is the caller of Close.
	s := conn.NewHijackedStream(raw, pieceBytes, p.member.wg.Go)
	return newOutgoingConn(kind, s, q.r.TLS), raw, nil
}

// serveHijacked takes the connection over and lends it to the writer.
func (q *request) serveHijacked(p *peer, kind streamKind) error {
	if !p.member.enter() { // so that what is done with the connection is a part of the member
		return ErrMemberUnknown
	}
	defer p.member.wg.Done()
	c, raw, err := q.hijack(p, kind)
	if errors.Is(err, errNotHijacked) {
		return err
	}
	if err != nil {
		if errors.Is(err, protocol.ErrNoStream) { // there is no answer any more that could say so
			q.logFailure(err, http.StatusNotImplemented)
		}
		return http.ErrAbortHandler
	}
	if p.attachOutgoingConn(c) && !p.member.spawn(func() { p.watch(c, raw) }) {
		c.stream.Close()
	}
	return nil
}

// pauseBeforeHijack comes before the Hijack of a request whose body has ended: net/http
// may only now begin to read ahead on the connection, and Hijack has to interrupt that
// read by a deadline. A listener such as etcd's, whose connections set a deadline of
// their own when a read begins, would undo it and hold Hijack up for seconds. The read is
// let begin first.
func (q *request) pauseBeforeHijack() {
	pause := time.NewTimer(hijackPause)
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-q.engine.ctx.Done():
	}
}

func (q *request) writeStreamHead(c net.Conn) error {
	if err := c.SetDeadline(time.Time{}); errors.Is(err, os.ErrNoDeadline) || errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("%w: the hijacked connection cannot set deadlines: %w", protocol.ErrNoStream, err)
	} else if err != nil {
		return err
	}
	if err := c.SetWriteDeadline(time.Now().Add(q.engine.cfg.writeTimeout)); err != nil {
		return err
	}
	_, err := c.Write(protocol.StreamHead(q.w.Header(), time.Now()))
	return err
}

// watch ends a hijacked stream when its client goes, or says anything.
func (p *peer) watch(c *outgoingConn, raw net.Conn) {
	var one [1]byte
	for {
		n, err := raw.Read(one[:])
		if c.stream.IsGone() {
			return // which has interrupted the Read, perhaps
		}
		var timeout net.Error
		switch {
		case n > 0:
			err = errUnexpectedData
		case errors.As(err, &timeout) && timeout.Timeout():
			continue // a wrapper of the connection sets deadlines of its own
		case errors.Is(err, io.EOF):
			err = errPeerGone
		case err == nil:
			continue
		}
		p.writers[c.kind].detach(c, err)
		return
	}
}

// flushHead sends the head of a stream's answer. Flush does, since nothing was written
// before; where it is a wrapper that fails, nothing is, and the request can still be
// refused.
func (q *request) flushHead() error {
	err := q.rc.Flush()
	var network net.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &network) || q.r.Context().Err() != nil:
		return http.ErrAbortHandler
	}
	return fmt.Errorf("%w: it cannot flush: %w", protocol.ErrNoStream, err)
}

// serveResponse lends the response to the writer until the stream ends. Behind a
// listener with read deadlines the request's context ends on a healthy stream;
// only a failed write then tells that the client is gone.
func (q *request) serveResponse(p *peer, kind streamKind) error {
	if !conn.CanFlush(q.w) {
		return fmt.Errorf("%w: it cannot flush", protocol.ErrNoStream)
	}
	if err := q.rc.SetWriteDeadline(time.Now().Add(q.engine.cfg.writeTimeout)); err != nil {
		return fmt.Errorf("%w: it cannot set write deadlines: %w", protocol.ErrNoStream, err)
	}
	if err := q.flushHead(); err != nil {
		return err
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
		case <-w.member.ctx.Done():
		}
		old.stream.Close()
	}
	if !w.member.spawn(wait) {
		grace.Stop()
		old.stream.Close()
	}
}
