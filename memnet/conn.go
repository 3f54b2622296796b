package memnet

import (
	"bytes"
	"io"
	"net"
	"os"
	"syscall"
)

// Conn is one side of a connection. It is a net.Conn that behaves as a *net.TCPConn does: errors are *net.OpError around
// net.ErrClosed, os.ErrDeadlineExceeded, ECONNRESET or EPIPE, and a Read at the end of the stream gets a bare io.EOF.
// Concurrent writes are not mixed with each other.
type Conn struct {
	endpoint
	peer *Conn

	// Guarded by net.mu.
	in         bytes.Buffer
	written    int64 // bytes, in all
	unsent     int64 // bytes of a Write in progress that find no room in the window
	received   int64 // bytes, in all
	used       int   // bytes written and not acknowledged by the peer: the window in use
	unacked    int   // of these, bytes that the peer has read, but could not acknowledge because the link back is cut
	writing    bool  // a Write is in progress, others wait
	eof        bool  // the peer will send no more
	peerClosed bool  // the peer no longer reads
	wasReset   bool
	finished   bool // CloseWrite was called
	vanished   bool // closed by a loss of power: later bytes are answered with a reset
}

// Read reads bytes that have arrived, and blocks until there are some. Bytes that arrived before the peer closed are
// read before io.EOF; a reset takes effect at once.
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
			c.peer.acknowledge(n)
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
		c.writing, c.unsent = false, 0
		c.changed.Broadcast()
	}()
	for {
		if err := c.writeError(); err != nil {
			return n, err
		}
		if sent := min(len(b)-n, c.net.buffer-c.used); sent > 0 {
			c.used += sent
			c.written += int64(sent)
			c.out.send(b[n:n+sent], noSignal)
			n += sent
		}
		if n == len(b) {
			return n, nil
		}
		c.unsent = int64(len(b) - n)
		c.changed.Wait()
	}
}

// writeError returns why writing is impossible, if so.
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

// acknowledge opens the window by n bytes that the peer has received, or later if the link back is cut.
func (c *Conn) acknowledge(n int) {
	c.unacked += n
	if c.out.back.blocked() || c.unacked == 0 {
		return
	}
	c.used -= c.unacked
	c.unacked = 0
	c.changed.Broadcast()
}

// acknowledgeable implements side.
func (c *Conn) acknowledgeable() { c.acknowledge(0) }

// receive handles an arriving segment. Bytes that no Read will return are dropped and not acknowledged.
func (c *Conn) receive(s segment) {
	if c.vanished && s.signal != signalReset {
		c.out.send(nil, signalReset)
	}
	if c.closed || c.wasReset {
		return
	}
	c.in.Write(s.data)
	c.received += int64(len(s.data))
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

// Close ends the connection: calls on this side fail with net.ErrClosed, the peer reads the bytes sent and then io.EOF,
// once the signal has arrived there, and its writes fail with EPIPE. It does not block. Closing again does nothing.
func (c *Conn) Close() error {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	c.close(signalClose)
	return nil
}

// SendState returns how many bytes have arrived at the peer, of all that were written; how many have not; and how many of
// these were not sent, since Write finds no room for them in the window.
func (c *Conn) SendState() (acked, unacked, unsent int64) {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	return c.peer.received, c.written - c.peer.received + c.unsent, c.unsent
}

// CloseWrite ends the stream to the peer, which reads io.EOF after all bytes sent; the other direction continues.
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

// abort ends the connection like a crash: bytes in transit are lost, and the peer gets a reset.
func (c *Conn) abort() {
	c.out.discard()
	c.close(signalReset)
}

// vanish ends the connection like a loss of power: bytes in transit are lost, and the peer is not told until it
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
	c.stopDeadlines()
	c.in = bytes.Buffer{}
	if !c.wasReset && sig != noSignal {
		c.out.send(nil, sig)
	}
	c.changed.Broadcast()
	if c.peer.closed {
		c.net.forget(c, c.peer)
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
