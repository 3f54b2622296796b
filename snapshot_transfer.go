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
	"time"
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

// transfer makes one attempt at u and waits for the answer. When it returns, the
// reader is no longer read, unless it holds a Read for longer than readerGrace
// after it was closed.
func (t *outgoingSnapshot) transfer(u url.URL) error {
	ctx, cancel := context.WithCancelCause(t.ctx)
	defer cancel(nil)
	conn, p, err := t.settle(ctx, u)
	if err != nil {
		return err
	}
	defer conn.Close()
	answered, written := make(chan error, 1), make(chan error, 1)
	t.wg.Go(func() { answered <- t.answer(conn) })
	go func() { written <- t.write(ctx, conn, p) }() // joined below, with a bound

	joined, err := t.supervise(ctx, written, answered)
	cancel(err)
	conn.Close()
	if !joined {
		t.joinWriter(written, err)
	}
	return err
}

// joinWriter waits for the writing goroutine, whose connection is closed. If it
// stays in a call of the reader, that is closed as well, which ends the transfer.
func (t *outgoingSnapshot) joinWriter(written <-chan error, err error) {
	stuck := errors.Is(err, ErrStalled) && t.db.reading.Load()
	if !stuck && joins(written, refusalGrace) {
		return
	}
	t.closeReader(err)
	if !joins(written, readerGrace) {
		t.log.Warn("the reader of a database snapshot does not return from Read after Close")
	}
}

// joins reports whether the writing goroutine ends in time.
func joins(written <-chan error, patience time.Duration) bool {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-written: //nolint:errcheck // it is ended on purpose
		return true
	case <-timer.C:
		return false
	}
}

// supervise waits for the end of an attempt, and reports whether the writing
// goroutine has ended.
func (t *outgoingSnapshot) supervise(ctx context.Context, written, answered <-chan error) (joined bool, err error) {
	tick := time.NewTicker(t.readTimeout / stallTicks)
	defer tick.Stop()
	var deadline <-chan time.Time // for the answer
	still, last := 0, t.moved.Load()
	for {
		select {
		case err := <-answered:
			if err != nil || joined {
				return joined, causeOrCut(ctx, err)
			}
			return t.endOfWriting(ctx, written)
		case err := <-written:
			joined, written = true, nil
			if err != nil {
				return joined, t.refusal(ctx, answered, err)
			}
			timer := time.NewTimer(t.snapshotAnswerTimeout)
			defer timer.Stop()
			deadline = timer.C
		case <-tick.C:
			now := t.moved.Load()
			if now != last || joined {
				still, last = 0, now
			} else if still++; still >= stallTicks {
				return joined, ErrStalled
			}
		case <-deadline:
			return joined, errNoAnswer
		case <-ctx.Done():
			return joined, context.Cause(ctx)
		}
	}
}

// endOfWriting waits for the writing goroutine once the receiver has answered
// that it has the whole snapshot: the answer may be there before Write returns.
func (t *outgoingSnapshot) endOfWriting(ctx context.Context, written <-chan error) (joined bool, err error) {
	grace := time.NewTimer(readerGrace)
	defer grace.Stop()
	select {
	case err := <-written:
		return true, err
	case <-grace.C:
		return false, errors.New("the receiver answered before the end of the snapshot")
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

// refusal returns the answer that made the writing fail with err, if one came.
func (t *outgoingSnapshot) refusal(ctx context.Context, answered <-chan error, err error) error {
	if isReaderFailure(err) {
		return err
	}
	grace := time.NewTimer(refusalGrace)
	defer grace.Stop()
	select {
	case answer := <-answered:
		if answer != nil && !errors.Is(answer, ErrSnapshotCut) {
			return answer
		}
	case <-grace.C:
	case <-ctx.Done():
	}
	return causeOrCut(ctx, err)
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
