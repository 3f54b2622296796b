package snapshot

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/closeconn"
	"github.com/seed-4d73690b/rafthttp/internal/conn"
	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
)

// errNoAnswer means that the receiver has the complete snapshot, and does not answer.
var errNoAnswer = fmt.Errorf("no answer to the snapshot: %w", errs.ErrStalled)

// peerConn is a connection of one attempt.
type peerConn struct {
	net.Conn
	br     *bufio.Reader     // of answers
	limit  *io.LimitedReader // below br
	target *url.URL

	onClose func() // called before Conn is closed; may be nil, and does not block
	closing sync.Once
	closed  chan struct{} // closed when Close of Conn has returned
}

// abort ends everything in progress on the connection. It does not block.
//
// Close may: that of TCP waits for a sendfile whose file hangs. So it has a separate
// goroutine.
func (c *peerConn) abort() {
	c.closing.Do(func() {
		c.closed = make(chan struct{})
		if c.onClose != nil {
			c.onClose()
		}
		go func() { // joined by Close, within a limit
			defer close(c.closed)
			closeconn.Close(c.Conn)
		}()
	})
}

// Close implements net.Conn. A Close that hangs is abandoned.
func (c *peerConn) Close() error {
	c.abort()
	grace := time.NewTimer(readerGrace)
	defer grace.Stop()
	select {
	case <-c.closed:
	case <-grace.C:
	}
	return nil
}

// connect dials u for an attempt.
func (t *transfer) connect(u url.URL) (*peerConn, error) {
	metered := func(c net.Conn) net.Conn { return conn.NewMetered(c, &t.moved, t.sender.cfg.Config.ReadTimeout) }
	c, target, err := t.sender.cfg.Peer.Dial(t.sender.cfg.Ctx, u, t.tried, metered)
	if err != nil {
		return nil, err
	}
	limit := &io.LimitedReader{R: c, N: maxAnswers}
	return &peerConn{Conn: c, br: bufio.NewReader(limit), limit: limit, target: target}, nil
}

// maxAnswers limits all answers on one connection.
const maxAnswers = 4 * protocol.MaxAnswerBytes

// readAnswer reads the final answer to a request. It calls interim for each preceding one.
func (c *peerConn) readAnswer(req *http.Request, interim func(*http.Response)) (*http.Response, error) {
	for {
		resp, err := http.ReadResponse(c.br, req)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", protocol.ErrSnapshotCut, err)
		}
		if resp.StatusCode >= http.StatusOK || resp.StatusCode == http.StatusSwitchingProtocols {
			return resp, nil
		}
		interim(resp)
	}
}

// causeOrCut returns why ctx ended, or that a connection broke if err does
// not say more.
func causeOrCut(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && err != nil {
		return cause
	}
	var network net.Error
	if errors.As(err, &network) && !errors.Is(err, protocol.ErrSnapshotCut) {
		return fmt.Errorf("%w: %w", protocol.ErrSnapshotCut, err)
	}
	return err
}

// answer reads the receiver's answer, which may arrive at any time.
func (t *transfer) answer(conn *peerConn) error {
	resp, err := conn.readAnswer(nil, func(resp *http.Response) {
		if resp.StatusCode == http.StatusProcessing {
			conn.limit.N = maxAnswers // limited by time, not by bytes
			t.told.Add(1)
		}
	})
	if err != nil {
		return err
	}
	return t.sender.cfg.Peer.Conclude(resp, false)
}

// exchange sends a GET on the connection and reads its answer, whose body is in
// memory.
func (t *transfer) exchange(conn *peerConn, path string, more http.Header) (*http.Response, error) {
	target := *conn.target
	target.Path = path
	req := &http.Request{Method: http.MethodGet, URL: &target, Host: target.Host, Header: t.sender.cfg.Peer.Header()}
	for name, values := range more {
		req.Header[name] = values
	}
	if err := req.Write(conn); err != nil {
		return nil, err
	}
	resp, err := conn.readAnswer(req, func(*http.Response) {})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, protocol.MaxAnswerBytes+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", protocol.ErrSnapshotCut, err)
	}
	if len(text) > protocol.MaxAnswerBytes {
		return nil, errors.New("the answer is too long")
	}
	resp.Body = io.NopCloser(bytes.NewReader(text))
	return resp, nil
}
