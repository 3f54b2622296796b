package rafthttp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
)

// errNoAnswer says that the receiver has the whole snapshot, and is silent.
var errNoAnswer = fmt.Errorf("no answer to the snapshot: %w", ErrStalled)

// snapshotConn is the connection of one attempt.
type snapshotConn struct {
	net.Conn
	br     *bufio.Reader     // of answers
	limit  *io.LimitedReader // below br
	target *url.URL
}

// connect dials u for an attempt.
func (t *outgoingSnapshot) connect(ctx context.Context, u url.URL) (*snapshotConn, error) {
	target, err := requestURL(u, RaftSnapshotPrefix)
	if err != nil {
		return nil, err
	}
	conn, err := t.dialer.connect(ctx, u)
	if err != nil {
		return nil, causeOf(ctx, err)
	}
	giveWayInKernel(conn)
	limit := &io.LimitedReader{R: conn, N: maxAnswersBytes}
	return &snapshotConn{Conn: conn, br: bufio.NewReader(limit), limit: limit, target: target}, nil
}

// maxAnswersBytes bounds all answers on one connection of a snapshot.
const maxAnswersBytes = 4 * maxAnswerBytes

// readAnswer reads the final answer to a request. It calls interim for each before it.
func (c *snapshotConn) readAnswer(req *http.Request, interim func(*http.Response)) (*http.Response, error) {
	for {
		resp, err := http.ReadResponse(c.br, req)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrSnapshotCut, err)
		}
		if resp.StatusCode >= http.StatusOK || resp.StatusCode == http.StatusSwitchingProtocols {
			return resp, nil
		}
		interim(resp)
	}
}

// transfer makes one attempt at u and waits for the answer.
func (t *outgoingSnapshot) transfer(u url.URL) error {
	conn, p, err := t.settle(u)
	if err != nil {
		return err
	}
	defer conn.Close()
	if p.TellsWork {
		// It may have good reasons not to read. Whether it lives is for us to find out.
		giveUpAfter(conn.Conn, max(t.tcpTimeout(), t.snapshotAnswerTimeout))
	}
	return t.follow(conn, p)
}

// causeOrCut returns why ctx ended, or says that a connection broke if err does
// not say more.
func causeOrCut(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && err != nil {
		return cause
	}
	var network net.Error
	if errors.As(err, &network) && !errors.Is(err, ErrSnapshotCut) {
		return fmt.Errorf("%w: %w", ErrSnapshotCut, err)
	}
	return err
}

// answer reads the receiver's answer, which may come at any time.
func (t *outgoingSnapshot) answer(conn *snapshotConn) error {
	resp, err := conn.readAnswer(nil, func(resp *http.Response) {
		if resp.StatusCode == http.StatusProcessing {
			conn.limit.N = maxAnswersBytes // it is a matter of time, not of bytes
			t.told.Add(1)
		}
	})
	if err != nil {
		return err
	}
	return t.concludeSnapshot(resp, endpointSnapshot)
}
