// Package closeconn closes connections in a short time, whatever the other end does.
package closeconn

import (
	"crypto/tls"
	"net"
	"time"
)

const (
	// grace is how long a Close of a connection of unknown type has before all that is done
	// with the connection is interrupted, and then again, tries times.
	grace = 100 * time.Millisecond
	tries = 10
)

// Close closes c and returns within a second, mostly at once.
//
// A *tls.Conn is closed without its close_notify, which waits for up to 5 s if the other
// end does not read. Any other type that is not one of package net may have TLS below it,
// so its Close is interrupted, as are Reads and Writes: by a deadline. If Close does not
// return nevertheless, it is left to itself. Whoever reads or writes must look whether the
// connection was closed before it goes on after a deadline.
func Close(c net.Conn) {
	switch t := c.(type) {
	case *tls.Conn:
		Close(t.NetConn())
	case *net.TCPConn, *net.UnixConn:
		c.Close()
	default:
		closeInterrupted(c)
	}
}

// IsQuick reports whether Close does not wait.
func IsQuick(c net.Conn) bool {
	switch t := c.(type) {
	case *tls.Conn:
		return IsQuick(t.NetConn())
	case *net.TCPConn, *net.UnixConn:
		return true
	}
	return false
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

// interrupt sets deadlines until c is closed, for a while.
func interrupt(c net.Conn, closed <-chan struct{}) {
	tick := time.NewTicker(grace)
	defer tick.Stop()
	for range tries {
		select {
		case <-closed:
			return
		case <-tick.C:
			_ = c.SetDeadline(time.Now()) // also where Close, or a Read that began, has set one
		}
	}
}
