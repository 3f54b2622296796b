package rafthttp

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/conn"
	"github.com/seed-4d73690b/rafthttp/internal/socket"
)

// Deadlines of streams are for progress, and to set one for each read and write would
// cost as much as to hand over a small message. Where a read or write that has run into
// its deadline can be continued, the deadline is left as it is, and set to when it is
// due only once it has passed: once in a timeout, however many messages there are.

// writesResume reports whether writes to a connection can be continued after a deadline:
// those to a socket can. A write of TLS cannot, it may be cut in a record, and TLS may be
// below any other type that a listener hands out.
func writesResume(c net.Conn) bool {
	_, ok := c.(syscall.Conn)
	return ok || socket.Is(c)
}

// readsResume reports whether reads of a connection can be continued after a deadline.
func readsResume(c net.Conn) bool {
	if d, ok := c.(*conn.Dialed); ok {
		c = d.Conn
	}
	_, encrypted := c.(*tls.Conn)
	return !encrypted
}

// isDeadline reports whether an error is that of a deadline, not of the system, which
// gives connections up by ETIMEDOUT.
func isDeadline(err error) bool {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return true
	}
	var timeout net.Error
	var system syscall.Errno
	return errors.As(err, &timeout) && timeout.Timeout() && !errors.As(err, &system)
}

// progressBytes is how much of a message has to come within the read timeout, if
// not all of it: a byte now and then is no stream that lives.
const progressBytes = 4 << 10

// pacedReader reads with a timeout for progress. It sees it at the connection: a reader
// above it, such as that of a chunked body, may wait for several reads of the connection in
// one of its own.
type pacedReader struct {
	head      []byte // of what the connection brings, which was read before; then nil
	conn      net.Conn
	resumable bool
	timeout   time.Duration

	since time.Time // of the last progress
	got   int       // bytes since then
	moved bool      // a message or a link heartbeat came since then; set by whoever decodes them
}

// Read implements io.Reader. It fails once there was no progress for the timeout.
func (r *pacedReader) Read(p []byte) (int, error) {
	if len(r.head) > 0 {
		return r.readHead(p), nil
	}
	if r.moved || r.got >= progressBytes || r.since.IsZero() {
		r.since, r.got, r.moved = time.Now(), 0, false
	}
	n, err := r.read(p)
	r.got += max(n, 0)
	return n, err
}

func (r *pacedReader) read(p []byte) (int, error) {
	if !r.resumable {
		if err := r.conn.SetReadDeadline(r.since.Add(r.timeout)); err != nil {
			return 0, err
		}
		return r.conn.Read(p)
	}
	for {
		n, err := r.conn.Read(p)
		if n > 0 || err == nil || !isDeadline(err) {
			return n, err
		}
		due := r.since.Add(r.timeout)
		if !due.After(time.Now()) {
			return 0, err
		}
		if err := r.conn.SetReadDeadline(due); err != nil {
			return 0, err
		}
	}
}

func (r *pacedReader) readHead(p []byte) int {
	n := copy(p, r.head)
	if r.head = r.head[n:]; len(r.head) == 0 {
		r.head = nil // lets go of the buffer that it is in
	}
	return n
}

// pacedWriter writes with a timeout for progress, not for the whole.
type pacedWriter struct {
	w         io.Writer
	limit     func(time.Time) error // sets the write deadline
	resumable bool                  // a write that timed out halfway can be continued
	timeout   time.Duration
	since     time.Time   // of the last progress of a write that is resumable
	pieces    conn.Pieces // of one that is not
}

// begin is called before each write of a batch.
func (p *pacedWriter) begin(timeout time.Duration) {
	p.timeout = timeout
	if p.resumable {
		p.since = time.Now()
	}
}

// writePiece gives a piece of b the timeout, where a write cannot be continued.
func (p *pacedWriter) writePiece(b []byte) (int, error) {
	begun := time.Now()
	if err := p.limit(begun.Add(p.timeout)); err != nil {
		return 0, err
	}
	size := p.pieces.Next(pieceBytes)
	if len(b) <= size {
		return p.w.Write(b)
	}
	n, err := p.w.Write(b[:size])
	p.pieces.Took(n, time.Since(begun), p.timeout)
	return n, err
}

// goesOn reports whether a write that wrote n bytes and failed can be continued: its
// deadline was that of an earlier one, or it moved.
func (p *pacedWriter) goesOn(n int64, err error) bool {
	if !p.resumable || !isDeadline(err) {
		return false
	}
	now := time.Now()
	if n > 0 {
		p.since = now
	}
	due := p.since.Add(p.timeout)
	return due.After(now) && p.limit(due) == nil
}

// Write implements io.Writer.
func (p *pacedWriter) Write(b []byte) (int, error) {
	written := 0
	for written < len(b) {
		piece := b[written:]
		if !p.resumable {
			n, err := p.writePiece(piece)
			written += n
			if err != nil {
				return written, err
			}
			continue
		}
		n, err := p.w.Write(piece)
		written += n
		if err != nil && !p.goesOn(int64(n), err) {
			return written, err
		}
	}
	return written, nil
}

// vectorWriter is a pacedWriter to a connection that has writev.
type vectorWriter struct {
	*pacedWriter
	conn socket.BuffersWriter
}

// WriteBuffers implements wire.BuffersWriter.
func (v vectorWriter) WriteBuffers(b *net.Buffers) (written int64, err error) {
	for len(*b) > 0 {
		n, err := v.conn.WriteBuffers(b)
		written += n
		if err != nil && !v.goesOn(n, err) {
			return written, err
		}
	}
	return written, nil
}
