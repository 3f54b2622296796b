package conn

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/socket"
)

// Deadlines of streams are for progress. Setting one for each read and write would
// cost as much as delivering a small message. If a read or write that has run into
// its deadline can be continued, the deadline is left unchanged, and set to the due time
// only once it has passed: once per timeout, for any number of messages.

// writesResume reports whether writes to a connection can be continued after a deadline:
// those to a socket can. A TLS write cannot, as it may end inside a record, and any other
// type from a listener may have TLS below it.
func writesResume(c net.Conn) bool {
	_, ok := c.(syscall.Conn)
	return ok || socket.Is(c)
}

// readsResume reports whether reads of a connection can be continued after a deadline.
func readsResume(c net.Conn) bool {
	if d, ok := c.(*Dialed); ok {
		c = d.Conn
	}
	_, encrypted := c.(*tls.Conn)
	return !encrypted
}

// isDeadline reports whether an error is from a deadline, not from the system, which
// closes connections with ETIMEDOUT.
func isDeadline(err error) bool {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return true
	}
	var timeout net.Error
	var system syscall.Errno
	return errors.As(err, &timeout) && timeout.Timeout() && !errors.As(err, &system)
}

// progressBytes is how much of a message must arrive within the read timeout, if
// not all of it: a stream with an occasional byte is not alive.
const progressBytes = 4 << 10

// ProgressReader reads with a timeout for progress. It measures at the connection: a reader
// above it, such as that of a chunked body, may wait for several reads of the connection in
// one Read. It is not safe for concurrent use.
type ProgressReader struct {
	conn      net.Conn
	head      []byte // bytes that were read from the connection before; then nil
	resumable bool
	timeout   time.Duration

	since time.Time // of the last progress
	got   int       // bytes since
	moved bool      // Moved was called since
}

// NewProgressReader returns a reader of c that fails after no progress for the
// timeout.
func NewProgressReader(c net.Conn, timeout time.Duration) *ProgressReader {
	return &ProgressReader{conn: c, resumable: readsResume(c), timeout: timeout}
}

// Conn returns the connection.
func (r *ProgressReader) Conn() net.Conn { return r.conn }

// Begin makes the reader return head first, which was read from the connection before.
func (r *ProgressReader) Begin(head []byte) { r.head = head }

// Moved notes that a complete message, or a link heartbeat, was decoded: that is also progress.
func (r *ProgressReader) Moved() { r.moved = true }

// Read implements io.Reader. It fails after no progress for the timeout.
func (r *ProgressReader) Read(p []byte) (int, error) {
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

func (r *ProgressReader) read(p []byte) (int, error) {
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

func (r *ProgressReader) readHead(p []byte) int {
	n := copy(p, r.head)
	if r.head = r.head[n:]; len(r.head) == 0 {
		r.head = nil // releases the buffer that it is in
	}
	return n
}

// ProgressWriter writes with a timeout for progress, not for the complete write. Only Limit may be
// called while another method runs.
type ProgressWriter struct {
	w         io.Writer
	limit     func(time.Time) error // sets the write deadline
	resumable bool                  // a write that timed out halfway can be continued
	most      int                   // bytes per write, if it cannot
	timeout   time.Duration
	since     time.Time // of the last progress of a resumable write
	pieces    Pieces    // of a write that is not resumable
}

// NewProgressWriter returns a writer to w, whose write deadline limit sets. If a write to w
// cannot be continued after its deadline, it has at most most bytes.
func NewProgressWriter(w io.Writer, limit func(time.Time) error, most int) *ProgressWriter {
	p := &ProgressWriter{w: w, limit: limit, most: most}
	if c, ok := w.(net.Conn); ok {
		p.resumable = writesResume(c)
	}
	return p
}

// Vectors returns p, with writev if c, which p writes to, has it.
func (p *ProgressWriter) Vectors(c net.Conn) io.Writer {
	if b := socket.Buffers(c); b != nil {
		return vectorWriter{p, b}
	}
	return p
}

// Begin is called before each write of a batch, with its timeout for progress.
func (p *ProgressWriter) Begin(timeout time.Duration) {
	p.timeout = timeout
	if p.resumable {
		p.since = time.Now()
	}
}

// Limit sets the write deadline. A deadline in the past ends a write in progress.
func (p *ProgressWriter) Limit(t time.Time) error { return p.limit(t) }

// writePiece writes a piece of b with the timeout, if a write cannot be continued.
func (p *ProgressWriter) writePiece(b []byte) (int, error) {
	begun := time.Now()
	if err := p.limit(begun.Add(p.timeout)); err != nil {
		return 0, err
	}
	size := p.pieces.Next(p.most)
	if len(b) <= size {
		return p.w.Write(b)
	}
	n, err := p.w.Write(b[:size])
	p.pieces.Took(n, time.Since(begun), p.timeout)
	return n, err
}

// goesOn reports whether a write that wrote n bytes and failed can be continued: its
// deadline was that of an earlier one, or it made progress.
func (p *ProgressWriter) goesOn(n int64, err error) bool {
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
func (p *ProgressWriter) Write(b []byte) (int, error) {
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

// vectorWriter is a ProgressWriter to a connection that has writev.
type vectorWriter struct {
	*ProgressWriter
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
