package rafthttp

import (
	"crypto/tls"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/internal/closeconn"
	"github.com/seed-4d73690b/rafthttp/internal/conn"
)

// recheck reads the files of TLSInfo again and holds all that is connected to
// them and to VerifyPeer. Whoever is revoked is cut at once. A connection that
// only could not be made again as it is, since we or the other end have another
// certificate now, is replaced by a new one, and cut if it is still there at the
// next time. VerifyPeer, which may be slow, holds up nothing but its own member.
func (e *engine) recheck() {
	e.files.Reload()
	for _, p := range e.peerMap() {
		p.startRecheck(p.recheck)
	}
	for _, l := range e.remotes.links() {
		l.startRecheck(l.recheckConns)
	}
	e.receiving.Cut(e.spawn, func(sender types.ID, over *tls.ConnectionState) bool {
		st, _ := e.validate(sender, over) // which calls the application
		return st >= conn.Outdated
	})
}

// recheck checks all connections with the peer but those of its snapshots to us.
func (p *peer) recheck() {
	p.recheckConns()
	for _, r := range p.readers {
		if r.isOutdated() {
			r.renew()
		}
	}
	for _, w := range p.writers {
		w.recheck()
	}
}

// startRecheck runs recheck on a goroutine of the link, unless one is at it.
func (l *link) startRecheck(recheck func()) {
	if l.checking.CompareAndSwap(false, true) {
		l.spawn(func() {
			defer l.checking.Store(false)
			recheck()
		})
	}
}

// rechecks reports whether there is anything to check again: something is
// encrypted or verified.
func (e *engine) rechecks() bool {
	return e.verifyPeer != nil || e.files.Change()
}

// startRecheck runs recheck, which reads files, on a goroutine of its own.
func (e *engine) startRecheck() {
	if !e.checking.CompareAndSwap(false, true) {
		return
	}
	if !e.spawn(func() { defer e.checking.Store(false); e.recheck() }) {
		e.checking.Store(false)
	}
}

// validate checks a connection with a member by the files of TLSInfo and by VerifyPeer.
func (s *settings) validate(id types.ID, state *tls.ConnectionState) (conn.Validity, error) {
	st, err := s.files.Validate(state, 2*s.tlsRecheck)
	if st < conn.Revoked && s.verifyPeer != nil {
		if err := s.verifyPeer(id, state); err != nil {
			return conn.Revoked, err
		}
	}
	return st, err
}

// dialedConn is a connection to a member, made by us, that is checked again while
// it is up. Its owner closes it.
type dialedConn struct {
	net.Conn
	state      *tls.ConnectionState // nil: not encrypted
	generation uint64               // of the certificate that we showed, or of one before
	dialer     *dialer

	outdated atomic.Bool
	cause    atomic.Pointer[error] // why it was cut
	closing  atomic.Bool           // or closed
	closed   chan struct{}         // closed once the connection below is, or is left to itself
}

// keep has a connection checked again, until it is closed.
func (d *dialer) keep(c net.Conn, state *tls.ConnectionState, generation uint64) net.Conn {
	dc := &dialedConn{Conn: c, state: state, generation: generation, dialer: d, closed: make(chan struct{})}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conns == nil {
		d.conns = map[*dialedConn]struct{}{}
	}
	d.conns[dc] = struct{}{}
	return dc
}

// NetConn returns the connection below, as that of tls.Conn does.
func (c *dialedConn) NetConn() net.Conn { return c.Conn }

// Close implements net.Conn. It takes a second at most.
func (c *dialedConn) Close() error {
	c.dialer.mu.Lock()
	delete(c.dialer.conns, c)
	c.dialer.mu.Unlock()
	c.close()
	return nil
}

// close closes the connection below, or waits until that is done.
func (c *dialedConn) close() {
	if c.closing.CompareAndSwap(false, true) {
		closeconn.Close(c.Conn)
		close(c.closed)
	}
	<-c.closed
}

// Read implements net.Conn.
func (c *dialedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	return n, c.because(err)
}

// Write implements net.Conn.
func (c *dialedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	return n, c.because(err)
}

// SetDeadline implements net.Conn.
func (c *dialedConn) SetDeadline(t time.Time) error { return c.limit(c.Conn.SetDeadline, t) }

// SetReadDeadline implements net.Conn.
func (c *dialedConn) SetReadDeadline(t time.Time) error { return c.limit(c.Conn.SetReadDeadline, t) }

// SetWriteDeadline implements net.Conn.
func (c *dialedConn) SetWriteDeadline(t time.Time) error { return c.limit(c.Conn.SetWriteDeadline, t) }

// limit sets a deadline, unless the connection is being closed: then that has set one.
func (c *dialedConn) limit(set func(time.Time) error, t time.Time) error {
	if c.closing.Load() {
		return c.because(net.ErrClosed)
	}
	return c.because(set(t))
}

// because returns why the connection was cut in place of what that led to.
func (c *dialedConn) because(err error) error {
	if err != nil {
		if cause := c.cause.Load(); cause != nil {
			return *cause
		}
	}
	return err
}

// cut ends the connection for whoever uses it.
func (c *dialedConn) cut(cause error) {
	c.cause.CompareAndSwap(nil, &cause)
	c.close()
}

// recheckConns checks the connections that were dialled to the member.
func (l *link) recheckConns() {
	d := l.dialer
	d.mu.Lock()
	all := make([]*dialedConn, 0, len(d.conns))
	for c := range d.conns {
		all = append(all, c)
	}
	d.mu.Unlock()
	idle := false // ones are of no use
	for _, c := range all {
		st, err := l.validate(l.peer, c.state)
		switch {
		case st == conn.Revoked, st == conn.Outdated && c.outdated.Load():
			l.cutting("to", err)
			c.cut(l.refusedDial(c.RemoteAddr().String(), err))
		case st != conn.Valid || (c.state != nil && c.generation != l.files.Generation()):
			c.outdated.Store(true)
			idle = true
		}
	}
	if idle {
		l.posts.CloseIdleConnections()
	}
}

func (l *link) cutting(direction string, cause error) {
	if l.refusedLog.Due(time.Now()) {
		l.log.Warn("cut a connection with the peer, which is no longer accepted", zap.String("direction", direction), zap.Error(cause))
	}
}

// recheck checks the connection that the peer dialled.
func (w *streamWriter) recheck() {
	c := w.current()
	if c == nil {
		return
	}
	st, err := w.validate(w.peer, c.state)
	switch {
	case st == conn.Revoked, st == conn.Outdated && c.outdated:
		w.cutting("from", err)
		w.allRefused.requests.Add(1)
		w.refused.requests.Add(1)
		w.activity.failed(err, false)
		w.detach(c, fmt.Errorf("%w: %w", ErrIdentity, err))
	case st == conn.Outdated:
		c.outdated = true // the peer is to dial again
	}
}
