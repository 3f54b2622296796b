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
	br     *bufio.Reader // of answers
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
	return &snapshotConn{Conn: conn, br: bufio.NewReader(io.LimitReader(conn, 4*maxAnswerBytes)), target: target}, nil
}

// transfer makes one attempt at u and waits for the answer.
func (t *outgoingSnapshot) transfer(u url.URL) error {
	conn, p, err := t.settle(u)
	if err != nil {
		return err
	}
	defer conn.Close()
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
	resp, err := http.ReadResponse(conn.br, nil)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSnapshotCut, err)
	}
	return t.concludeSnapshot(resp, endpointSnapshot)
}
