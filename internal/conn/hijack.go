package conn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/closeconn"
	"github.com/seed-4d73690b/rafthttp/internal/errs"
)

var (
	// ErrNotHijacked means that the server, or a wrapper of its response, does not release the connection. Nothing was
	// written.
	ErrNotHijacked = errors.New("the connection cannot be hijacked")
	// ErrNoDeadlines means that a stream cannot be written with a deadline.
	ErrNoDeadlines = errors.New("the hijacked connection cannot set deadlines")
)

// hijackPause is how long net/http has to start a read that Hijack interrupts.
const hijackPause = 2 * time.Millisecond

// Hijack takes the connection of a request over from the server and from its listener, with the bytes already read.
// ended means that the request's body has been read to its end. ErrNotHijacked leaves everything unchanged;
// http.ErrHijacked means that the connection was hijacked before.
func Hijack(ctx context.Context, rc *http.ResponseController, ended bool) (c net.Conn, prefetched []byte, err error) {
	if ended {
		pauseBeforeHijack(ctx)
	}
	hijacked, buf, err := rc.Hijack()
	if errors.Is(err, http.ErrHijacked) {
		return nil, nil, err
	}
	if err != nil {
		return nil, nil, ErrNotHijacked
	}
	prefetched, _ = buf.Reader.Peek(buf.Reader.Buffered())
	return Release(hijacked), prefetched, nil
}

// pauseBeforeHijack precedes the Hijack of a request whose body has ended: net/http
// may start to read ahead on the connection only now, and Hijack has to interrupt that
// read by a deadline. A listener such as etcd's, whose connections set a deadline
// when a read starts, would overwrite it and delay Hijack for seconds. So the read is
// allowed to start first.
func pauseBeforeHijack(ctx context.Context) {
	pause := time.NewTimer(hijackPause)
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-ctx.Done():
	}
}

// HijackStream takes the connection of a request without a body over for a stream, and writes the head of an answer
// whose body ends with the connection, within the write timeout. TCP closes the connection after it is dead for idle.
// Its client must have sent nothing more: otherwise the error is errs.ErrUnexpectedData. After any error except
// ErrNotHijacked the connection is closed, or was hijacked before.
func HijackStream(ctx context.Context, rc *http.ResponseController, head []byte, writeTimeout, idle time.Duration) (net.Conn, error) {
	c, prefetched, err := Hijack(ctx, rc, true)
	if err != nil {
		return nil, err
	}
	if len(prefetched) > 0 { // the client of a stream must not send data
		closeconn.Close(c)
		return nil, errs.ErrUnexpectedData
	}
	SetTimeouts(c, idle) // the listener may be of any type
	LimitStreamBuffer(c)
	if err := writeHead(c, head, writeTimeout); err != nil {
		closeconn.Close(c)
		return nil, err
	}
	return c, nil
}

func writeHead(c net.Conn, head []byte, timeout time.Duration) error {
	if err := c.SetDeadline(time.Time{}); err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.ErrClosedPipe) {
		return fmt.Errorf("%w: %w", ErrNoDeadlines, err)
	}
	if err := c.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	_, err := c.Write(head)
	return err
}

// Watch reads from the connection of a hijacked stream until the client disconnects or sends data, and returns
// errs.ErrPeerGone, errs.ErrUnexpectedData, or the error of the connection. It returns nil once the stream is closed.
func (s *Stream) Watch(c net.Conn) error {
	var one [1]byte
	for {
		n, err := c.Read(one[:])
		if s.IsGone() {
			return nil // Close may have interrupted the Read
		}
		switch {
		case n > 0:
			return errs.ErrUnexpectedData
		case isDeadline(err): // a wrapper of the connection sets its own deadlines
			_ = c.SetReadDeadline(time.Time{})
			continue
		case errors.Is(err, io.EOF):
			return errs.ErrPeerGone
		case err == nil:
			continue
		}
		return err
	}
}

// BeginResponse prepares a response to be written as a stream: it has a deadline for the first write, and its head is
// sent. http.ErrAbortHandler means that the client, whose request has this context, has disconnected. After any other
// error nothing was sent.
func BeginResponse(ctx context.Context, w http.ResponseWriter, timeout time.Duration) error {
	if !canFlush(w) {
		return errors.New("it cannot flush")
	}
	rc := http.NewResponseController(w)
	if err := rc.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
		return fmt.Errorf("it cannot set write deadlines: %w", err)
	}
	err := rc.Flush() // sends the head, since nothing was written before; a wrapper that fails has sent nothing
	var network net.Error
	switch {
	case err == nil:
		_ = rc.SetWriteDeadline(time.Time{}) // in HTTP/2, one that passes ends the stream
		return nil
	case errors.As(err, &network) || ctx.Err() != nil:
		return http.ErrAbortHandler
	}
	return fmt.Errorf("it cannot flush: %w", err)
}
