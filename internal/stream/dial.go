package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"time"

	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/internal/conn"
	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
)

// incoming is a stream from the peer, to be read.
type incoming struct {
	url  url.URL
	conn net.Conn
	in   *conn.ProgressReader // of conn
	body io.Reader            // of in
	stop func() bool          // stops closing conn at the end of the context
}

// destination is where a stream is dialled.
type destination struct {
	url   url.URL
	asked Question // about the extension groups-1 of the peer, for streams of that
}

// pick returns where to dial next.
func (r *Reader) pick() (to destination) {
	if r.extension != nil {
		to.asked = r.extension.Ask()
	}
	to.url = r.member.URLs.Pick()
	return to
}

// open dials the peer and requests the stream (PROTOCOL.md, sections 1
// and 2). The stream is closed when ctx ends.
func (r *Reader) open(ctx context.Context, to destination) (*incoming, error) {
	s, err := r.openAt(ctx, to)
	if err != nil && !errors.Is(context.Cause(ctx), errUpdated) {
		r.member.URLs.Unreachable(to.url)
		err = r.about(to.url, conn.CauseOf(ctx, err))
	}
	return s, err
}

func (r *Reader) openAt(ctx context.Context, to destination) (*incoming, error) {
	s, err := r.openOnce(ctx, to, r.Kind >= Kinds)
	if errors.Is(err, errClosesConnections) {
		return r.openOnce(ctx, to, false)
	}
	return s, err
}

// openOnce requests the stream on a connection of its own, on which it asks for the extension groups-1 before, if ask is set.
func (r *Reader) openOnce(ctx context.Context, to destination, ask bool) (*incoming, error) {
	c, err := r.member.Dialer.Connect(ctx, to.url)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	in := conn.NewProgressReader(c, r.member.Cfg.ReadTimeout)
	body, err := r.handshake(in, to, ask)
	if err != nil {
		stop()
		c.Close()
		return nil, err
	}
	return &incoming{url: to.url, conn: c, in: in, body: body, stop: stop}, nil
}

// handshake sends the request and reads the head of the answer.
func (r *Reader) handshake(in *conn.ProgressReader, to destination, ask bool) (io.Reader, error) {
	c := in.Conn()
	if err := c.SetDeadline(time.Now().Add(r.member.Cfg.ReadTimeout)); err != nil {
		return nil, err
	}
	if ask {
		if err := r.askForGroups(c, to); err != nil {
			return nil, err
		}
	}
	header := r.member.Cfg.Self.StreamHeader(*r.member.Cfg.URLs.Load(), r.member.RemoteID)
	req, err := conn.NewGet(to.url, protocol.StreamPathOf(r.Kind.endpoint(), r.member.Cfg.ID), header)
	if err != nil {
		return nil, err
	}
	if err := req.Write(c); err != nil {
		return nil, err
	}
	answer, err := conn.ReadAnswer(c, req, protocol.MaxAnswerBytes)
	if conn.IsTimeout(err) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("no answer to the request for a stream: %w", err)
	}
	if err != nil {
		return nil, err
	}
	if err := r.member.Cfg.Conclude(answer.Response, r.Kind.endpoint()); err != nil {
		return nil, err
	}
	r.member.SawVersion(answer.Header)
	return answer.Stream(in, chunkBuffer)
}

// askForGroups asks on the connection of the request whether its other end has the extension groups-1
// (extensions: groups): a stock member would log an error for each request for such a stream.
func (r *Reader) askForGroups(c net.Conn, to destination) error {
	req, err := conn.NewGet(to.url, protocol.ProbingPath, r.member.Cfg.RequestHeader())
	if err != nil {
		return err
	}
	if err := req.Write(c); err != nil {
		return err
	}
	answer, err := conn.ReadAnswer(c, req, protocol.MaxAnswerBytes)
	if conn.IsTimeout(err) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("no answer to a probe: %w", err)
	}
	if err != nil {
		return err
	}
	if err := r.member.Cfg.Conclude(answer.Response, protocol.EndpointProbe); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return err
	}
	switch {
	case !r.extension.Learn(to.asked, answer.Header):
		return errs.ErrNoGroups
	case answer.Close:
		return errClosesConnections
	}
	return nil
}

// errClosesConnections means that the peer has the extension, and accepts one request from each connection.
var errClosesConnections = errors.New("the connection ends with the answer to a probe")

// replacement is a connection that will continue a stream: when the peer is asked for
// another connection, it ends the previous one between two messages.
type replacement struct {
	done chan struct{} // closed when s is set
	s    *incoming     // nil: it failed
}

// IsOutdated reports whether the current connection should be replaced.
func (r *Reader) IsOutdated() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, ok := r.conn.(*conn.Dialed)
	return ok && c.Outdated()
}

// Renew continues the stream on a new connection: nothing is lost, and the
// order is kept. If that fails the old connection stays in use.
func (r *Reader) Renew() {
	ctx := r.untilMoved()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn == nil || r.replacement != nil {
		return
	}
	n := &replacement{done: make(chan struct{})}
	open := func() {
		s, err := r.open(ctx, r.pick())
		if err != nil && r.member.Ctx.Err() == nil {
			r.member.Log.Warn("failed to renew a stream of the peer; continuing on the old connection", zap.Stringer("stream", r.Kind), zap.Error(err))
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if n.s = s; s == nil {
			r.replacement = nil
		}
		close(n.done)
	}
	if r.member.Spawn(open) {
		r.replacement = n
	}
}

// takeReplacement returns the connection that continues the ended stream,
// or nil.
func (r *Reader) takeReplacement() *incoming {
	r.mu.Lock()
	n := r.replacement
	r.mu.Unlock()
	if n == nil {
		return nil
	}
	<-n.done // at the latest when the peer's context ends
	r.mu.Lock()
	defer r.mu.Unlock()
	r.replacement = nil
	return n.s
}
