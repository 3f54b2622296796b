package conn

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
)

// Listen listens on a peer URL (http, https, unix or unixs) without TLS. On its connections
// one read or one write may take DefaultTimeout, and TCP closes them when the peer
// is unreachable. The file of a Unix socket is removed before.
func Listen(u url.URL, limits ListenLimits) (net.Listener, error) {
	var l net.Listener
	var err error
	switch u.Scheme {
	case "http", "https":
		lc := net.ListenConfig{KeepAliveConfig: KeepAlive(DefaultTimeout), Control: Control(DefaultTimeout)}
		lc.SetMultipathTCP(false) // its connections do not inherit the options
		l, err = lc.Listen(context.Background(), "tcp", u.Host)
	case "unix", "unixs":
		l, err = transport.NewUnixListener(SocketPath(u))
	default:
		err = fmt.Errorf("scheme of %s: want http, https, unix or unixs", u.String())
	}
	if err != nil {
		return nil, err
	}
	return NewDeadlineListener(l, DefaultTimeout, DefaultTimeout, limits), nil
}

// DeadlineListener gives each connection deadlines for single reads and writes,
// and limits their number: one over the limit is closed at once. It is safe for
// concurrent use.
type DeadlineListener struct {
	net.Listener
	read, write time.Duration
	conns       *admission
}

// NewDeadlineListener returns a listener over l whose connections fail when one read or one
// write takes longer than these times.
func NewDeadlineListener(l net.Listener, read, write time.Duration, limits ListenLimits) *DeadlineListener {
	return &DeadlineListener{l, read, write, newAdmission(limits.Conns, limits.ConnsPerAddress)}
}

// Accept implements net.Listener.
func (l *DeadlineListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := c.RemoteAddr()
		if !l.conns.enter(from) {
			c.Close()
			continue
		}
		return &deadlineConn{
			Conn: c, reads: opDeadline{timeout: l.read}, writes: opDeadline{timeout: l.write},
			leave: sync.OnceFunc(func() { l.conns.leave(from) }),
		}, nil
	}
}

// deadlineConn sets a new deadline before each read and write, until released,
// unless its user has set one: net/http interrupts a read by a deadline in the
// past, which must also apply to a read that starts later.
type deadlineConn struct {
	net.Conn
	reads, writes opDeadline
	leave         func() // removes it from the count
}

// NetConn returns the connection below, as that of tls.Conn does.
func (c *deadlineConn) NetConn() net.Conn { return c.Conn }

// Close implements net.Conn.
func (c *deadlineConn) Close() error {
	c.leave()
	return c.Conn.Close()
}

// opDeadline is the deadline of one direction.
type opDeadline struct {
	timeout time.Duration

	mu    sync.Mutex
	user  bool // the user's deadline is in force
	never bool // released
}

// extend sets the deadline for an operation that starts.
func (d *opDeadline) extend(set func(time.Time) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.user || d.never {
		return nil
	}
	return set(time.Now().Add(d.timeout))
}

// override sets the user's deadline, or ours again if that is zero.
func (d *opDeadline) override(t time.Time, set func(time.Time) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.user = !t.IsZero(); !d.user && !d.never {
		t = time.Now().Add(d.timeout)
	}
	return set(t)
}

func (d *opDeadline) release() {
	d.mu.Lock()
	d.never = true
	d.mu.Unlock()
}

// Read implements net.Conn.
func (c *deadlineConn) Read(p []byte) (int, error) {
	if err := c.reads.extend(c.Conn.SetReadDeadline); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

// Write implements net.Conn.
func (c *deadlineConn) Write(p []byte) (int, error) {
	if err := c.writes.extend(c.Conn.SetWriteDeadline); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// SetDeadline implements net.Conn; zero restores the listener's deadlines.
func (c *deadlineConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline implements net.Conn, like SetDeadline.
func (c *deadlineConn) SetReadDeadline(t time.Time) error {
	return c.reads.override(t, c.Conn.SetReadDeadline)
}

// SetWriteDeadline implements net.Conn, like SetDeadline.
func (c *deadlineConn) SetWriteDeadline(t time.Time) error {
	return c.writes.override(t, c.Conn.SetWriteDeadline)
}

// Release transfers the deadlines of a connection of a DeadlineListener to the caller, removes
// it from the listener's count, and returns the connection below; if it is below TLS, c. A
// connection of any other type is returned unchanged.
func Release(c net.Conn) net.Conn {
	if tc, ok := c.(*tls.Conn); ok {
		Release(tc.NetConn())
		return c
	}
	if dc, ok := c.(*deadlineConn); ok {
		dc.reads.release()
		dc.writes.release()
		dc.leave()
		return dc.Conn
	}
	return c
}
