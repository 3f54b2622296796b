package rafthttp

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/conn"
	"github.com/seed-4d73690b/rafthttp/internal/member"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
	"github.com/seed-4d73690b/rafthttp/internal/stream"
)

// suspectBeat is how often a link heartbeat is written to a stream whose request
// context ended, to detect whether its client is still there.
const suspectBeat = 300 * time.Millisecond

// streamWriter writes a stream: a stream.Writer or a stream.GroupWriter.
type streamWriter interface {
	// Attach takes over c. It returns false, and closes c, if the member has ended.
	Attach(c *stream.Conn) bool
	// Detach ends c, if it is still the connection of the writer.
	Detach(c *stream.Conn, cause error)
	// Heartbeat writes a link heartbeat soon.
	Heartbeat()
}

// peerStream is the writer of a peer.
type peerStream struct {
	peer *peer
	*stream.Writer
}

// Attach implements streamWriter.
func (s peerStream) Attach(c *stream.Conn) bool { return s.peer.attachOutgoingConn(c) }

// hijack takes the connection over for a stream to a member, and writes the head of an
// answer whose body ends with the connection. After any error but conn.ErrNotHijacked the
// connection is closed.
func (q *request) hijack(m *member.Member, kind stream.Kind) (*stream.Conn, net.Conn, error) {
	if q.r.ProtoMajor != 1 {
		return nil, nil, conn.ErrNotHijacked
	}
	raw, err := conn.HijackStream(q.engine.ctx, q.rc, protocol.StreamHead(q.w.Header(), time.Now()), q.engine.cfg.WriteTimeout, q.engine.cfg.TCPTimeout())
	if err != nil {
		return nil, nil, err
	}
	// Closing the connection is a task of the member, as is the caller of Close.
	s := conn.NewHijackedStream(raw, stream.PieceBytes, m.Wait.Go)
	return stream.NewConn(kind, s, q.r.TLS), raw, nil
}

// serveHijacked takes the connection over and lends it to the writer.
func (q *request) serveHijacked(m *member.Member, kind stream.Kind, w streamWriter) error {
	if !m.Enter() { // so that the member waits for work on the connection
		return ErrMemberUnknown
	}
	defer m.Wait.Done()
	c, raw, err := q.hijack(m, kind)
	if errors.Is(err, conn.ErrNotHijacked) {
		return err
	}
	if err != nil {
		if errors.Is(err, conn.ErrNoDeadlines) { // an answer is no longer possible
			q.logFailure(fmt.Errorf("%w: %w", protocol.ErrNoStream, err), http.StatusNotImplemented)
		}
		return http.ErrAbortHandler
	}
	watch := func() { // ends the stream when its client disconnects or sends anything
		if err := c.Stream.Watch(raw); err != nil {
			w.Detach(c, err)
		}
	}
	if w.Attach(c) && !m.Spawn(watch) {
		c.Stream.Close()
	}
	return nil
}

// serveResponse lends the response to the writer until the stream ends. Behind a
// listener with read deadlines the request's context ends on a healthy stream;
// then only a failed write shows that the client has disconnected.
func (q *request) serveResponse(kind stream.Kind, w streamWriter) error {
	err := conn.BeginResponse(q.r.Context(), q.w, q.engine.cfg.WriteTimeout)
	if errors.Is(err, http.ErrAbortHandler) {
		return err
	}
	if err != nil {
		return fmt.Errorf("%w: %w", protocol.ErrNoStream, err)
	}
	c := stream.NewConn(kind, conn.NewResponseStream(q.w, stream.PieceBytes), q.r.TLS)
	w.Attach(c)
	defer func() {
		c.Stream.Close() // or waits for one in progress: both use the response
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
