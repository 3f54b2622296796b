package rafthttp

import (
	"net"
	"syscall"
)

const (
	tcpNotSentLowat = 25 // TCP_NOTSENT_LOWAT of tcp(7)
	maxUnsent       = 1 << 20
)

// limitUnsent bounds what waits in the kernel of a snapshot's connection to be
// sent, without bounding what is under way: so much less is lost with the
// connection, and what gives way gives way at once.
func limitUnsent(conn net.Conn) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpNotSentLowat, maxUnsent) })
}
