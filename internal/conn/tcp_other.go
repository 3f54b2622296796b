//go:build !linux

package conn

import (
	"net"
	"syscall"
	"time"
)

// Control has nothing to set: other systems know no user timeout, or not
// by this name. Deadlines and keep-alive work everywhere.
func Control(time.Duration) func(network, address string, c syscall.RawConn) error {
	return func(string, string, syscall.RawConn) error { return nil }
}

// LimitStreamBuffer leaves the send buffer to other systems.
func LimitStreamBuffer(net.Conn) {}

// DelayAcks returns nil: it cannot be had.
func DelayAcks(net.Conn) func() { return nil }

// GiveWay leaves it to the sender to give way.
func GiveWay(net.Conn) {}
