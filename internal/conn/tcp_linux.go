package conn

import (
	"math"
	"net"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Socket options of Linux that package syscall has no names for.
const (
	tcpUserTimeout = 18 // TCP_USER_TIMEOUT, in milliseconds
	tcpRTOMax      = 44 // TCP_RTO_MAX_MS, since Linux 6.15
)

// rtoMax is the longest time between two tries to send the same bytes: a
// connection over a link that comes back must not wait for longer to find out.
const rtoMax = time.Second

// Control sets the options of a new socket, as Control of net.Dialer and
// net.ListenConfig; connections inherit them of their listener. An old system that
// lacks one goes without.
func Control(timeout time.Duration) func(network, address string, c syscall.RawConn) error {
	millis := int(min(timeout.Milliseconds(), math.MaxInt32))
	return func(network, _ string, c syscall.RawConn) error {
		if !strings.HasPrefix(network, "tcp") {
			return nil
		}
		return c.Control(func(fd uintptr) {
			_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, millis)
			_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpRTOMax, int(rtoMax.Milliseconds()))
		})
	}
}

// sendBuffer is how large the send buffer of a connection is, for good, if its round
// trip is short when it begins. Between members that are close together the kernel
// needs little room to keep a connection busy. What it has beyond that is lost
// without a word with the connection, has left the caches when it is sent, and lets
// one write, and then one read, keep a processor for as long as there is any. The
// kernel doubles a size, for what a buffer costs besides: a full one moves up to
// size * 1.4 bytes in a round trip, which over an idle network is more than one
// stream, or 10 GbE for a snapshot, can use. Farther away the kernel chooses.
type sendBuffer struct {
	size   int // bytes
	within time.Duration
}

// A snapshot's is the smallest that keeps it fast, since it gives way to streams: with
// less than two of loopback's segments, which have 64 KiB, it would wait for
// acknowledgements that are put off.
func streamBuffer() sendBuffer   { return sendBuffer{512 << 10, 250 * time.Microsecond} }
func snapshotBuffer() sendBuffer { return sendBuffer{96 << 10, 60 * time.Microsecond} }

// LimitStreamBuffer bounds the send buffer of a stream's connection, if its other end is near.
func LimitStreamBuffer(c net.Conn) { streamBuffer().apply(c) }

// apply gives the connection the buffer, if its other end is near. The system may
// allow less: net.core.wmem_max is 208 KiB by default, with which streams are no
// faster than the kernel would make them, and heartbeats wait even less.
func (b sendBuffer) apply(c net.Conn) {
	control(c, func(fd int) {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil && b.fits(info.Rtt, info.Min_rtt) {
			_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_SNDBUF, b.size)
		}
	})
}

// fits judges by the smoothed round trip of a connection and the least one, in
// microseconds. Before anything is measured they are 0 and the largest number; an
// old system knows no least, and says 0.
func (b sendBuffer) fits(smoothed, least uint32) bool {
	if least != 0 {
		smoothed = min(smoothed, least)
	}
	return smoothed != 0 && time.Duration(smoothed)*time.Microsecond <= b.within
}

// DelayAcks returns a function that has the kernel put off acknowledging what a
// connection brings, or nil if that cannot be had. A stream brings small messages
// and nothing goes back on it, so that each would be acknowledged by a packet of its
// own: a fifth of what a heartbeat and its answer take. The kernel forgets it when the
// connection is quiet for a moment, so the caller calls it again after every few reads. The
// round trip that the sender smooths has that wait in it then, the least has not.
func DelayAcks(c net.Conn) func() {
	raw := rawTCP(c)
	if raw == nil {
		return nil
	}
	delay := func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_QUICKACK, 0)
	}
	return func() { _ = raw.Control(delay) }
}

// control calls f with the descriptor of the TCP connection that c is or wraps, if
// it is one.
func control(c net.Conn, f func(fd int)) {
	if raw := rawTCP(c); raw != nil {
		_ = raw.Control(func(fd uintptr) { f(int(fd)) })
	}
}

const (
	tcpNotSentLowat = 25 // TCP_NOTSENT_LOWAT of tcp(7)
	maxUnsent       = 1 << 20

	priorityBulk = 2 // TC_PRIO_BULK of tc-prio(8)
)

// GiveWay has the kernel prefer everything else to a snapshot's connection.
// What waits in it to be sent is bounded, so that less is lost with the connection,
// and what gives way gives way at once; what is under way is not, but to a near
// receiver, which needs little.
// And the queue of the network device, if it has bands, puts it last.
func GiveWay(conn net.Conn) {
	control(conn, func(fd int) {
		_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, tcpNotSentLowat, maxUnsent)
		_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_PRIORITY, priorityBulk)
	})
	snapshotBuffer().apply(conn)
}
