package memnet

import (
	"net"
	"slices"
	"sync"
	"time"
)

// side is one side of a connection: a Conn, or a Socket. Its unexported methods are called with the network's mutex held.
type side interface {
	net.Conn
	hosts() (own, other string)
	path() *path // to the other side

	receive(segment)  // handles an arriving segment
	acknowledgeable() // the link for acknowledgements works again
	reset()           // ends the connection, as if a reset arrived
	abort()           // ends it like a crash: bytes in transit are lost, and the peer gets a reset
	vanish()          // ends it like a loss of power: the peer is not told until it sends something
}

// endpoint is the common part of both kinds of sides.
type endpoint struct {
	net           *Network
	local, remote addr
	out           *path // to the peer

	// Guarded by net.mu.
	changed    *sync.Cond // any change that a Read or Write of this side may wait for
	readLimit  deadline
	writeLimit deadline
	closed     bool
}

// connect makes a connection between two addresses and returns both sides.
func (n *Network) connect(from, to *Host, fromAddr, toAddr addr) (client, server side) {
	there := &path{net: n, link: n.link(from.name, to.name)}
	back := &path{net: n, link: n.link(to.name, from.name), back: there}
	there.back = back
	near := endpoint{net: n, local: fromAddr, remote: toAddr, out: there, changed: sync.NewCond(&n.mu)}
	far := endpoint{net: n, local: toAddr, remote: fromAddr, out: back, changed: sync.NewCond(&n.mu)}
	if n.sockets {
		client, server = newSockets(near, far)
	} else {
		c, s := &Conn{endpoint: near}, &Conn{endpoint: far}
		c.peer, s.peer = s, c
		client, server = c, s
	}
	there.dst, back.dst = server, client
	n.note("%s connects to %s", fromAddr, toAddr)
	for _, s := range []side{client, server} {
		n.conns = append(n.conns, s)
		s.path().link.paths = append(s.path().link.paths, s.path())
	}
	return client, server
}

// forget removes a connection that is closed on both sides from the network.
func (n *Network) forget(sides ...side) {
	for _, s := range sides {
		p := s.path()
		p.discard()
		n.conns = remove(n.conns, s)
		p.link.paths = remove(p.link.paths, p)
	}
}

func remove[T comparable](s []T, v T) []T {
	if i := slices.Index(s, v); i >= 0 {
		return slices.Delete(s, i, i+1)
	}
	return s
}

func (e *endpoint) path() *path { return e.out }

func (e *endpoint) hosts() (own, other string) { return e.out.link.from, e.out.link.to }

// LocalAddr returns the address of this side, as "host:port".
func (e *endpoint) LocalAddr() net.Addr { return e.local }

// RemoteAddr returns the address of the other side, as "host:port".
func (e *endpoint) RemoteAddr() net.Addr { return e.remote }

// SetDeadline sets both deadlines.
func (e *endpoint) SetDeadline(t time.Time) error {
	return e.setDeadlines(t, &e.readLimit, &e.writeLimit)
}

// SetReadDeadline sets when Reads, including one in progress, fail with os.ErrDeadlineExceeded. Zero means never.
func (e *endpoint) SetReadDeadline(t time.Time) error { return e.setDeadlines(t, &e.readLimit) }

// SetWriteDeadline sets when Writes, including one in progress, fail with os.ErrDeadlineExceeded. Zero means never.
func (e *endpoint) SetWriteDeadline(t time.Time) error { return e.setDeadlines(t, &e.writeLimit) }

func (e *endpoint) setDeadlines(t time.Time, limits ...*deadline) error {
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	if e.closed {
		return e.fail("set", net.ErrClosed)
	}
	for _, d := range limits {
		d.set(t, e.changed)
	}
	return nil
}

func (e *endpoint) stopDeadlines() {
	e.readLimit.stop()
	e.writeLimit.stop()
}

func (e *endpoint) fail(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Source: e.local, Addr: e.remote, Err: err}
}

// addr is "host:port".
type addr string

func (addr) Network() string  { return "tcp" }
func (a addr) String() string { return string(a) }
