package memnet

import (
	"bytes"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Conn is one side of a connection. It is a net.Conn that behaves as a *net.TCPConn does: errors are *net.OpError around
// net.ErrClosed, os.ErrDeadlineExceeded, ECONNRESET or EPIPE, and a Read at the end of the stream gets a bare io.EOF.
// Concurrent writes are not mixed with each other.
type Conn struct {
	net           *Network
	host          string
	local, remote addr
	peer          *Conn
	out           *path // to peer

	// Guarded by net.mu.
	changed    *sync.Cond // any change that a Read or Write of this side may wait for
	in         bytes.Buffer
	readLimit  deadline
	writeLimit deadline
	writing    bool // a Write is under way, others wait
	eof        bool // the peer will send no more
	peerClosed bool // the peer reads no more
	wasReset   bool
	finished   bool // CloseWrite was called
	closed     bool
	vanished   bool // closed by a loss of power: what still comes is answered with a reset
}

// connect makes a connection between two addresses and returns both sides.
func (n *Network) connect(from, to *Host, fromAddr, toAddr addr) (client, server *Conn) {
	client = &Conn{net: n, host: from.name, local: fromAddr, remote: toAddr, changed: sync.NewCond(&n.mu)}
	server = &Conn{net: n, host: to.name, local: toAddr, remote: fromAddr, changed: sync.NewCond(&n.mu)}
	client.peer, server.peer = server, client
	client.out = &path{link: n.link(from.name, to.name), src: client, dst: server}
	server.out = &path{link: n.link(to.name, from.name), src: server, dst: client}
	client.out.back, server.out.back = server.out, client.out
	n.note("%s connects to %s", fromAddr, toAddr)
	for _, c := range []*Conn{client, server} {
		n.conns = append(n.conns, c)
		c.out.link.paths = append(c.out.link.paths, c.out)
	}
	return client, server
}

// Read reads what has arrived, and blocks until there is something. What arrived before the peer closed is read before
// io.EOF; a reset takes effect at once.
func (c *Conn) Read(b []byte) (int, error) {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	for {
		switch {
		case c.closed:
			return 0, c.fail("read", net.ErrClosed)
		case c.readLimit.expired:
			return 0, c.fail("read", os.ErrDeadlineExceeded)
		case c.wasReset:
			return 0, c.fail("read", os.NewSyscallError("read", syscall.ECONNRESET))
		case len(b) == 0:
			return 0, nil
		case c.in.Len() > 0:
			n, _ := c.in.Read(b[:c.net.readSize(len(b), c.out.link)])
			c.peer.out.acknowledge(n)
			return n, nil
		case c.eof:
			return 0, io.EOF
		}
		c.changed.Wait()
	}
}

// Write sends b, and blocks while the window is full. With an error it returns how many bytes were sent before.
func (c *Conn) Write(b []byte) (n int, err error) {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	for c.writing {
		if err := c.writeError(); err != nil {
			return 0, err
		}
		c.changed.Wait()
	}
	c.writing = true
	defer func() {
		c.writing = false
		c.changed.Broadcast()
	}()
	for {
		if err := c.writeError(); err != nil {
			return n, err
		}
		if sent := min(len(b)-n, c.out.room()); sent > 0 {
			c.out.send(b[n:n+sent], noSignal)
			n += sent
		}
		if n == len(b) {
			return n, nil
		}
		c.changed.Wait()
	}
}

// writeError returns why nothing can be written, if so.
func (c *Conn) writeError() error {
	switch {
	case c.closed:
		return c.fail("write", net.ErrClosed)
	case c.writeLimit.expired:
		return c.fail("write", os.ErrDeadlineExceeded)
	case c.wasReset:
		return c.fail("write", os.NewSyscallError("write", syscall.ECONNRESET))
	case c.peerClosed, c.finished:
		return c.fail("write", os.NewSyscallError("write", syscall.EPIPE))
	}
	return nil
}

// receive takes what arrives. Bytes that no one will read are dropped and not acknowledged.
func (c *Conn) receive(s segment) {
	if c.vanished && s.signal != signalReset {
		c.out.send(nil, signalReset)
	}
	if c.closed || c.wasReset {
		return
	}
	c.in.Write(s.data)
	switch s.signal {
	case signalEOF:
		c.eof = true
	case signalClose:
		c.eof, c.peerClosed = true, true
	case signalReset:
		c.reset()
	}
	c.changed.Broadcast()
}

// Close ends the connection: calls on this side fail with net.ErrClosed, the peer reads what was sent and then io.EOF,
// once the news has travelled there, and its writes fail with EPIPE. It does not block. Closing again does nothing.
func (c *Conn) Close() error {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	c.close(signalClose)
	return nil
}

// CloseWrite ends the stream to the peer, which reads io.EOF after all that was sent; the other direction goes on.
func (c *Conn) CloseWrite() error {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	if c.closed {
		return c.fail("close", net.ErrClosed)
	}
	if !c.finished && !c.wasReset {
		c.finished = true
		c.out.send(nil, signalEOF)
		c.changed.Broadcast()
	}
	return nil
}

// abort ends the connection as a crash does: what is on its way is lost, and the peer gets a reset.
func (c *Conn) abort() {
	c.out.discard()
	c.close(signalReset)
}

// vanish ends the connection as a loss of power does: what is on its way is lost, and the peer is not told until it
// sends something.
func (c *Conn) vanish() {
	c.out.discard()
	c.close(noSignal)
	c.vanished = true
}

func (c *Conn) close(sig signal) {
	if c.closed {
		return
	}
	c.net.note("%s closes its connection with %s", c.local, c.remote)
	c.closed = true
	c.readLimit.stop()
	c.writeLimit.stop()
	c.in = bytes.Buffer{}
	if !c.wasReset && sig != noSignal {
		c.out.send(nil, sig)
	}
	c.changed.Broadcast()
	if c.peer.closed {
		c.forget()
	}
}

// reset makes all calls on this side fail with ECONNRESET.
func (c *Conn) reset() {
	if c.closed {
		return
	}
	c.net.note("%s: its connection with %s is reset", c.local, c.remote)
	c.wasReset = true
	c.in = bytes.Buffer{}
	c.out.discard()
	c.changed.Broadcast()
}

// forget takes a connection that is closed on both sides out of the network.
func (c *Conn) forget() {
	for _, side := range []*Conn{c, c.peer} {
		side.out.discard()
		side.net.conns = remove(side.net.conns, side)
		side.out.link.paths = remove(side.out.link.paths, side.out)
	}
}

func remove[T comparable](s []T, v T) []T {
	if i := slices.Index(s, v); i >= 0 {
		return slices.Delete(s, i, i+1)
	}
	return s
}

// LocalAddr returns the address of this side, as "host:port".
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr returns the address of the other side, as "host:port".
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error { return c.setDeadlines(t, &c.readLimit, &c.writeLimit) }

// SetReadDeadline sets when Reads, also one that blocks now, fail with os.ErrDeadlineExceeded. Zero means never.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.setDeadlines(t, &c.readLimit) }

// SetWriteDeadline sets when Writes, also one that blocks now, fail with os.ErrDeadlineExceeded. Zero means never.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.setDeadlines(t, &c.writeLimit) }

func (c *Conn) setDeadlines(t time.Time, limits ...*deadline) error {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	if c.closed {
		return c.fail("set", net.ErrClosed)
	}
	for _, d := range limits {
		d.set(t, c.changed)
	}
	return nil
}

func (c *Conn) fail(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Source: c.local, Addr: c.remote, Err: err}
}

// addr is "host:port".
type addr string

func (addr) Network() string  { return "tcp" }
func (a addr) String() string { return string(a) }
