package rafthttp

import (
	"net"
	"syscall"
)

const (
	tcpNotSentLowat = 25 // TCP_NOTSENT_LOWAT of tcp(7)
	maxUnsent       = 1 << 20

	priorityBulk = 2 // TC_PRIO_BULK of tc-prio(8)
)

// giveWayInKernel has the kernel prefer everything else to a snapshot's connection.
// What waits in it to be sent is bounded, so that less is lost with the connection,
// and what gives way gives way at once; what is under way is not, but to a near
// receiver, which needs little.
// And the queue of the network device, if it has bands, puts it last.
func giveWayInKernel(conn net.Conn) {
	control(conn, func(fd int) {
		_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, tcpNotSentLowat, maxUnsent)
		_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_PRIORITY, priorityBulk)
	})
	snapshotBuffer().apply(conn)
}
