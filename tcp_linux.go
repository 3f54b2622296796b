package rafthttp

import (
	"strings"
	"syscall"
	"time"
)

// Socket options of Linux that package syscall has no names for.
const (
	tcpUserTimeout = 18 // TCP_USER_TIMEOUT, in milliseconds
	tcpRTOMax      = 44 // TCP_RTO_MAX_MS, since Linux 6.15
)

// rtoMax is the longest time between two tries to send the same bytes: a
// connection over a link that comes back must not wait for longer to find out.
const rtoMax = time.Second

// socketControl sets the options of a new socket, as Control of net.Dialer and
// net.ListenConfig; connections inherit them of their listener. An old system that
// lacks one goes without.
func socketControl(timeout time.Duration) func(network, address string, c syscall.RawConn) error {
	return func(network, _ string, c syscall.RawConn) error {
		if !strings.HasPrefix(network, "tcp") {
			return nil
		}
		return c.Control(func(fd uintptr) {
			_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(timeout.Milliseconds()))
			_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpRTOMax, int(rtoMax.Milliseconds()))
		})
	}
}
