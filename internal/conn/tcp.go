package conn

import (
	"crypto/tls"
	"net"
	"syscall"
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/socket"
)

// MinTimeout is the shortest time after which a TCP connection is closed: a shorter one would
// mistake a busy machine for an unreachable one.
const MinTimeout = time.Second

// keepAliveProbes is how many probes of an idle connection stay unanswered
// before it is closed.
const keepAliveProbes = 5

// maxKeepAlive is the longest keep-alive time that systems accept. A longer one
// leaves the connection with the system's default, which is hours.
const maxKeepAlive = 32767 * time.Second

// KeepAlive makes the system close an idle connection with an unreachable
// peer after twice the timeout, which is at least MinTimeout.
func KeepAlive(timeout time.Duration) net.KeepAliveConfig {
	return net.KeepAliveConfig{
		Enable: true, Idle: min(timeout, maxKeepAlive), Count: keepAliveProbes,
		Interval: min(max(timeout/keepAliveProbes, time.Second), maxKeepAlive), // in whole seconds for the system
	}
}

// SetTimeouts gives a connection of another listener the timeouts of ours, if it is a TCP
// connection, or one is below TLS or a type of this package.
func SetTimeouts(c net.Conn, timeout time.Duration) {
	if tcp := tcpBelow(c); tcp != nil {
		_ = tcp.SetKeepAliveConfig(KeepAlive(timeout))
	}
	GiveUpAfter(c, timeout)
}

// GiveUpAfter changes when the system closes a connection whose other end does not
// acknowledge, or read, the data sent. It finds TCP connections like SetTimeouts, and
// leaves others unchanged.
func GiveUpAfter(c net.Conn, timeout time.Duration) {
	if s, ok := below(c).(socket.UserTimeouter); ok {
		_ = s.SetUserTimeout(timeout)
	} else if raw := rawTCP(c); raw != nil {
		_ = Control(timeout)("tcp", "", raw)
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

// below returns the connection that c wraps, if c is of TLS or of this package, or c. The
// NetConn of another type is not followed: several connections may share what it returns,
// and it may return c.
func below(c net.Conn) net.Conn {
	switch c := c.(type) {
	case *tls.Conn:
		return below(c.NetConn())
	case *deadlineConn:
		return below(c.Conn)
	case *Dialed:
		return below(c.Conn)
	case *Metered:
		return below(c.Conn)
	}
	return c
}
