//go:build !linux

package conn

import (
	"net"
	"syscall"
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/socket"
)

// Control sets no option: other systems have no user timeout, or not
// by this name. Deadlines and keep-alive work everywhere.
func Control(time.Duration) func(network, address string, c syscall.RawConn) error {
	return func(string, string, syscall.RawConn) error { return nil }
}

// LimitStreamBuffer does nothing: other systems choose the send buffer.
func LimitStreamBuffer(net.Conn) {}

// DelayAcks returns nil: not supported.
func DelayAcks(net.Conn) func() { return nil }

// GiveWay does nothing: only the sender yields.
func GiveWay(net.Conn) {}

type tcpInfo struct{}

// sendState returns false: other systems are not asked.
func sendState(int, *tcpInfo) (socket.SendState, bool) { return socket.SendState{}, false }
