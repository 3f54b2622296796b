package memnet

import (
	"net"
	"sync"
)

// Listener is the type of the result of [Host.Listen].
type Listener struct {
	host *Host
	port string
	addr addr

	// Guarded by host.net.mu.
	changed *sync.Cond
	backlog []side // connected, not yet accepted
	most    int    // limit of the backlog, which holds one more
	closed  bool
}

func newListener(h *Host, port string, a addr) *Listener {
	return &Listener{host: h, port: port, addr: a, changed: sync.NewCond(&h.net.mu), most: defaultBacklog}
}

// defaultBacklog is net.core.somaxconn, which package net asks for.
const defaultBacklog = 4096

// SetBacklog sets how many connections may wait to be accepted with [WithSockets]: n, and as on Linux one more. The
// default is 4096. While there are so many, dials get no answer and try again.
func (l *Listener) SetBacklog(n int) {
	l.host.net.mu.Lock()
	defer l.host.net.mu.Unlock()
	l.most = n
}

func (l *Listener) isFull() bool { return len(l.backlog) > l.most }

// Accept returns the next connection, and blocks until there is one. It fails with net.ErrClosed once the listener is
// closed. The caller closes the connection.
func (l *Listener) Accept() (net.Conn, error) {
	l.host.net.mu.Lock()
	defer l.host.net.mu.Unlock()
	for {
		switch {
		case l.closed:
			return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.addr, Err: net.ErrClosed}
		case len(l.backlog) > 0:
			c := l.backlog[0]
			l.backlog = l.backlog[1:]
			return c, nil
		}
		l.changed.Wait()
	}
}

func (l *Listener) offer(c side) {
	l.backlog = append(l.backlog, c)
	l.changed.Broadcast()
}

// Close frees the port and resets the connections that were not accepted; accepted ones continue. Closing again does
// nothing.
func (l *Listener) Close() error {
	l.host.net.mu.Lock()
	defer l.host.net.mu.Unlock()
	l.close()
	return nil
}

func (l *Listener) close() {
	if l.closed {
		return
	}
	l.closed = true
	delete(l.host.listeners, l.port)
	for _, c := range l.backlog {
		c.abort()
	}
	l.backlog = nil
	l.changed.Broadcast()
}

// Addr returns the address as "host:port".
func (l *Listener) Addr() net.Addr { return l.addr }
