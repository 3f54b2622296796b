// Package closeconn closes connections within a limited time, whatever the other end does.
package closeconn

import (
	"crypto/tls"
	"net"
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/socket"
)

const (
	// grace is how long a Close of a connection of unknown type may take before all operations
	// on the connection are interrupted, and then again, tries times.
	grace = 100 * time.Millisecond
	tries = 10
)

// wrapper is a connection over another one; closing that one closes it.
type wrapper interface{ CloseBelow() net.Conn }

// Close closes c and returns within a second, usually at once.
//
// A *tls.Conn is closed without its close_notify, which waits for up to 5 s if the other
// end does not read. Any other type that is not a socket may have TLS below it,
// so its Close is interrupted, as are Reads and Writes: by a deadline. If Close still does not
// return, it is abandoned. Readers and writers must check whether the
// connection was closed before they continue after a deadline.
func Close(c net.Conn) {
	if t, ok := c.(*tls.Conn); ok {
		Close(t.NetConn())
	} else if t, ok := c.(wrapper); ok {
		Close(t.CloseBelow())
	} else if socket.Is(c) {
		c.Close()
	} else {
		closeInterrupted(c)
	}
}

// IsQuick reports whether Close never waits.
func IsQuick(c net.Conn) bool {
	if t, ok := c.(*tls.Conn); ok {
		return IsQuick(t.NetConn())
	}
	if t, ok := c.(wrapper); ok {
		return IsQuick(t.CloseBelow())
	}
	return socket.Is(c)
}

func closeInterrupted(c net.Conn) {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		c.Close()
	}()
	// SetDeadline may wait for the same lock as a Close that hangs.
	go interrupt(c, closed)
	tired := time.NewTimer(tries * grace)
	defer tired.Stop()
	select {
	case <-closed:
	case <-tired.C:
	}
}

// interrupt sets deadlines until c is closed, for a limited time.
func interrupt(c net.Conn, closed <-chan struct{}) {
	tick := time.NewTicker(grace)
	defer tick.Stop()
	for range tries {
		select {
		case <-closed:
			return
		case <-tick.C:
			_ = c.SetDeadline(time.Now()) // also if Close, or a Read that began, has set one
		}
	}
}
