//go:build !linux

package rafthttp

import (
	"net"
	"syscall"
	"time"
)

// socketControl has nothing to set: other systems know no user timeout, or not
// by this name. Deadlines and keep-alive work everywhere.
func socketControl(time.Duration) func(network, address string, c syscall.RawConn) error {
	return func(string, string, syscall.RawConn) error { return nil }
}

// sendBuffer is left to other systems.
type sendBuffer struct{}

func streamBuffer() sendBuffer { return sendBuffer{} }

func (sendBuffer) apply(net.Conn) {}

func ackDelayer(net.Conn) func() { return nil }

func giveWayInKernel(net.Conn) {}
