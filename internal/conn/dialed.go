package conn

import (
	"crypto/tls"
	"maps"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/closeconn"
)

// Dialed is a connection to a member, made by a Dialer, that is revalidated while it
// is open. Its owner closes it. It is safe for concurrent use, as a net.Conn is.
type Dialed struct {
	net.Conn
	Began      time.Time            // of the attempt; does not change
	state      *tls.ConnectionState // nil: no TLS
	generation uint64               // of our certificate, or of an earlier one
	dialer     *Dialer

	outdated atomic.Bool
	cause    atomic.Pointer[error] // why it was cut
	closing  atomic.Bool           // by Cut or Close
	closed   chan struct{}         // closed once the connection below is closed, or abandoned
}

// track makes the Dialer revalidate a connection until it is closed.
func (d *Dialer) track(c *Dialed) net.Conn {
	c.dialer, c.closed = d, make(chan struct{})
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conns == nil {
		d.conns = map[*Dialed]struct{}{}
	}
	d.conns[c] = struct{}{}
	return c
}

// NetConn returns the connection below, as that of tls.Conn does.
func (c *Dialed) NetConn() net.Conn { return c.Conn }

// Close implements net.Conn. It takes at most a second.
func (c *Dialed) Close() error {
	c.dialer.mu.Lock()
	delete(c.dialer.conns, c)
	c.dialer.mu.Unlock()
	c.close()
	return nil
}

// close closes the connection below, or waits until another call has done so.
func (c *Dialed) close() {
	if c.closing.CompareAndSwap(false, true) {
		closeconn.Close(c.Conn)
		close(c.closed)
	}
	<-c.closed
}

// Read implements net.Conn.
func (c *Dialed) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	return n, c.because(err)
}

// Write implements net.Conn.
func (c *Dialed) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	return n, c.because(err)
}

// SetDeadline implements net.Conn.
func (c *Dialed) SetDeadline(t time.Time) error { return c.limit(c.Conn.SetDeadline, t) }

// SetReadDeadline implements net.Conn.
func (c *Dialed) SetReadDeadline(t time.Time) error { return c.limit(c.Conn.SetReadDeadline, t) }

// SetWriteDeadline implements net.Conn.
func (c *Dialed) SetWriteDeadline(t time.Time) error { return c.limit(c.Conn.SetWriteDeadline, t) }

// limit sets a deadline, unless the connection is being closed: Close has set one.
func (c *Dialed) limit(set func(time.Time) error, t time.Time) error {
	if c.closing.Load() {
		return c.because(net.ErrClosed)
	}
	return c.because(set(t))
}

// because returns the cause of a cut in place of the error that resulted from it.
func (c *Dialed) because(err error) error {
	if err != nil {
		if cause := c.cause.Load(); cause != nil {
			return *cause
		}
	}
	return err
}

// Outdated reports whether the connection could not be made again as it is, since one
// end has another certificate now.
func (c *Dialed) Outdated() bool { return c.outdated.Load() }

// Cut closes the connection, which takes at most a second. Reads, writes and deadlines fail
// with this error from then on, including those in progress; the first of several calls wins.
// The Dialer forgets the connection when its owner closes it.
func (c *Dialed) Cut(cause error) {
	c.cause.CompareAndSwap(nil, &cause)
	c.close()
}

// Revalidate validates all open connections. A connection that is revoked, or that was
// already outdated the last time, ends with the error that cut returns for it. Revalidate
// reports whether others must be replaced: then idle connections are useless. Both functions
// are called for one connection after another, without a lock, and may block.
func (d *Dialer) Revalidate(validate func(*tls.ConnectionState) (Validity, error), cut func(c *Dialed, cause error) error) (replace bool) {
	d.mu.Lock()
	all := slices.Collect(maps.Keys(d.conns))
	d.mu.Unlock()
	for _, c := range all {
		v, err := validate(c.state)
		switch {
		case v == Revoked, v == Outdated && c.outdated.Load():
			c.Cut(cut(c, err))
		case v != Valid || (c.state != nil && c.generation != d.Files.Generation()):
			c.outdated.Store(true)
			replace = true
		}
	}
	return replace
}
