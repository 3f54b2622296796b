package rafthttp

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/conn"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
	"github.com/seed-4d73690b/rafthttp/internal/stream"
)

// suspectBeat is how often a heartbeat is written on a stream whose request
// context ended, to find out whether its client is still there.
const suspectBeat = 300 * time.Millisecond

// hijack takes the connection over for a stream to the peer, and writes the head of an
// answer whose body ends with the connection. After any error but conn.ErrNotHijacked the
// connection is closed.
func (q *request) hijack(p *peer, kind stream.Kind) (*stream.Conn, net.Conn, error) {
	if q.r.ProtoMajor != 1 {
		return nil, nil, conn.ErrNotHijacked
	}
	raw, err := conn.HijackStream(q.engine.ctx, q.rc, protocol.StreamHead(q.w.Header(), time.Now()), q.engine.cfg.WriteTimeout, q.engine.cfg.TCPTimeout())
	if err != nil {
		return nil, nil, err
	}
	// To close the connection is a part of the member, as is the caller of Close.
	s := conn.NewHijackedStream(raw, stream.PieceBytes, p.member.Wait.Go)
	return stream.NewConn(kind, s, q.r.TLS), raw, nil
}

// serveHijacked takes the connection over and lends it to the writer.
func (q *request) serveHijacked(p *peer, kind stream.Kind) error {
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
		c.Stream.Close()
	}
	return nil
}

// watch ends a hijacked stream when its client goes, or says anything.
func (p *peer) watch(c *stream.Conn, raw net.Conn) {
	if err := c.Stream.Watch(raw); err != nil {
		p.writers[c.Kind].Detach(c, err)
	}
}

// serveResponse lends the response to the writer until the stream ends. Behind a
// listener with read deadlines the request's context ends on a healthy stream;
// only a failed write then tells that the client is gone.
func (q *request) serveResponse(p *peer, kind stream.Kind) error {
	err := conn.BeginResponse(q.r.Context(), q.w, q.engine.cfg.WriteTimeout)
	if errors.Is(err, http.ErrAbortHandler) {
		return err
	}
	if err != nil {
		return fmt.Errorf("%w: %w", protocol.ErrNoStream, err)
	}
	c := stream.NewConn(kind, conn.NewResponseStream(q.w, stream.PieceBytes), q.r.TLS)
	w := p.writers[kind]
	p.attachOutgoingConn(c)
	defer func() {
		c.Stream.Close() // or waits for one under way: both use the response
		c.Stream.Quiesce()
	}()
	select {
	case <-c.Stream.Gone():
		return nil
	case <-q.engine.ctx.Done():
		w.Detach(c, ErrStopped)
		return nil
	case <-q.r.Context().Done():
	}
	beat := time.NewTicker(suspectBeat)
	defer beat.Stop()
	for {
		w.Heartbeat()
		select {
		case <-c.Stream.Gone():
			return nil
		case <-q.engine.ctx.Done():
			w.Detach(c, ErrStopped)
			return nil
		case <-beat.C:
		}
	}
}
