package rafthttp

import (
	"crypto/tls"
	"net"
	"syscall"
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/conn"
	"github.com/seed-4d73690b/rafthttp/internal/socket"
)

// minTCPTimeout is the least that a TCP connection is given up after: less would
// mistake a machine that is busy for one that is gone.
const minTCPTimeout = time.Second

// keepAliveProbes is how many probes of an idle connection stay unanswered
// before it is given up.
const keepAliveProbes = 5

// tcpTimeout is how long data on a TCP connection of ours may stay unacknowledged,
// or unsent because the other end does not read, before the system gives the
// connection up (RFC 5482). It finds what no deadline of ours can: bytes that
// were written, and never arrived.
func (s *settings) tcpTimeout() time.Duration {
	return max(s.readTimeout, s.writeTimeout, minTCPTimeout)
}

// maxKeepAlive is the longest time that systems take for keep-alive. One over it
// leaves the connection with the system's own, which is hours.
const maxKeepAlive = 32767 * time.Second

// keepAlive gives up an idle connection, whose other end is gone without a word,
// after twice the timeout.
func keepAlive(timeout time.Duration) net.KeepAliveConfig {
	return net.KeepAliveConfig{
		Enable: true, Idle: min(timeout, maxKeepAlive), Count: keepAliveProbes,
		Interval: min(max(timeout/keepAliveProbes, time.Second), maxKeepAlive), // in whole seconds for the system
	}
}

// tuneTCP gives a connection that is another's the timeouts of ours, if it is a
// TCP connection and we can see that it is.
func tuneTCP(c net.Conn, timeout time.Duration) {
	if tcp := tcpBelow(c); tcp != nil {
		_ = tcp.SetKeepAliveConfig(keepAlive(timeout))
	}
	giveUpAfter(c, timeout)
}

// giveUpAfter changes when the system gives a connection up whose other end does not
// acknowledge, or read, what is sent.
func giveUpAfter(c net.Conn, timeout time.Duration) {
	if s, ok := below(c).(socket.UserTimeouter); ok {
		_ = s.SetUserTimeout(timeout)
	} else if raw := rawTCP(c); raw != nil {
		_ = socketControl(timeout)("tcp", "", raw)
	}
}

// rawTCP gives access to the socket of the TCP connection that c is or wraps, or
// returns nil.
func rawTCP(c net.Conn) syscall.RawConn {
	tcp := tcpBelow(c)
	if tcp == nil {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// tcpBelow returns the TCP connection that c is or wraps, or nil.
func tcpBelow(c net.Conn) *net.TCPConn {
	tcp, _ := below(c).(*net.TCPConn)
	return tcp
}

// below returns the connection that c wraps, as far as we can see, or c.
func below(c net.Conn) net.Conn {
	switch c := c.(type) {
	case *tls.Conn:
		return below(c.NetConn())
	case *deadlineConn:
		return below(c.Conn)
	case *dialedConn:
		return below(c.Conn)
	case *conn.Metered:
		return below(c.Conn)
	}
	return c
}
