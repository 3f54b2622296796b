package conn

import (
	"math"
	"net"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/seed-4d73690b/rafthttp/internal/socket"
)

// Socket options of Linux without names in package syscall.
const (
	tcpUserTimeout = 18 // TCP_USER_TIMEOUT, in milliseconds
	tcpRTOMax      = 44 // TCP_RTO_MAX_MS, since Linux 6.15
)

// rtoMax is the longest time between two attempts to send the same bytes: a
// connection over a recovered link must not wait longer to detect that.
const rtoMax = time.Second

// Control sets the options of a new socket, as Control of net.Dialer and
// net.ListenConfig; connections inherit them from their listener. Options that an old
// system lacks are skipped.
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

// sendBuffer is the size of the send buffer of a connection to a low-latency peer, fixed when
// the connection begins. There the kernel needs little room to keep a connection busy. Data in
// a larger buffer is lost unnoticed with the connection, has left the caches when it is sent,
// and lets one write, and then one read, occupy a processor for long. The kernel doubles the
// size for the overhead of buffers: a full one moves up to size * 1.4 bytes in a round trip,
// which over an idle network is more than one stream, or 10 GbE for a snapshot, can use. For
// other peers the kernel chooses.
type sendBuffer struct {
	size   int // bytes
	within time.Duration
}

// The buffer of a snapshot is the smallest that keeps it fast, since streams have precedence:
// with less than two of loopback's segments, of 64 KiB, it would wait for delayed
// acknowledgements.
func streamBuffer() sendBuffer   { return sendBuffer{512 << 10, 250 * time.Microsecond} }
func snapshotBuffer() sendBuffer { return sendBuffer{96 << 10, 60 * time.Microsecond} }

// LimitStreamBuffer limits the send buffer of a stream's connection to a low-latency peer.
func LimitStreamBuffer(c net.Conn) { streamBuffer().apply(c) }

// apply gives the connection the buffer if its peer has a low latency. The system may allow
// less: net.core.wmem_max is 208 KiB by default, with which streams are no
// faster than the kernel would make them, and heartbeats wait even less.
func (b sendBuffer) apply(c net.Conn) {
	control(c, func(fd int) {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil && b.isFor(info.Rtt, info.Min_rtt) {
			_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_SNDBUF, b.size)
		}
	})
}

// isFor reports whether a connection with this smoothed and this minimum round trip, in
// microseconds, gets the buffer. Before the first measurement they are 0 and the largest number;
// old systems report a minimum of 0.
func (b sendBuffer) isFor(smoothed, least uint32) bool {
	if least != 0 {
		smoothed = min(smoothed, least)
	}
	return smoothed != 0 && time.Duration(smoothed)*time.Microsecond <= b.within
}

// DelayAcks returns a function that makes the kernel delay acknowledgements on a connection, or
// nil if the system does not support that. A stream carries small messages, and no data in the
// other direction, so that each message would be acknowledged by a separate packet: a fifth of the
// cost of a heartbeat and its response. The kernel resets the option when the connection is
// idle for a moment, so the caller calls the function again after every few reads. The smoothed
// round trip of the sender then includes the delay, the minimum does not.
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

// GiveWay makes the kernel prefer all other connections to that of a snapshot. The unsent data
// in its buffer is limited, so that less is lost with the connection and the preference takes
// effect at once; data in flight is limited only for a low-latency receiver, which needs little.
// The queue of the network device, if it has bands, puts the connection last.
func GiveWay(conn net.Conn) {
	control(conn, func(fd int) {
		_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, tcpNotSentLowat, maxUnsent)
		_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_PRIORITY, priorityBulk)
	})
	snapshotBuffer().apply(conn)
}

// tcpInfo is where the kernel writes what it knows of a connection: as a part of something that is there anyway, it is not
// allocated each time, as by unix.GetsockoptTCPInfo.
type tcpInfo struct {
	unix.TCPInfo
	size uint32
}

// read asks the kernel, and leaves what an older one does not know at 0.
func (i *tcpInfo) read(fd int) bool {
	i.TCPInfo = unix.TCPInfo{}
	i.size = unix.SizeofTCPInfo
	_, _, err := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.IPPROTO_TCP, unix.TCP_INFO,
		uintptr(unsafe.Pointer(&i.TCPInfo)), uintptr(unsafe.Pointer(&i.size)), 0)
	return err == 0
}

// sendState asks the kernel how far what was written to a TCP connection has got. Bytes that were received are
// acknowledged, whether they were read or not: then nothing is on its way, and if there is more to be sent the
// receiver's buffer is full.
func sendState(fd int, info *tcpInfo) (socket.SendState, bool) {
	if !info.read(fd) || info.Bytes_acked == 0 && info.Bytes_sent == 0 { // an old kernel, or no byte was sent yet
		return socket.SendState{}, false
	}
	// Asked afterwards: bytes that are acknowledged meanwhile are in neither number, in the other order they would be in both.
	unacked, err := unix.IoctlGetInt(fd, unix.SIOCOUTQ)
	if err != nil {
		return socket.SendState{}, false
	}
	return socket.SendState{
		Acked: int64(min(info.Bytes_acked, math.MaxInt64)), Unacked: int64(unacked), Unsent: min(int64(info.Notsent_bytes), int64(unacked)),
		Shut: info.Notsent_bytes > 0 && info.Unacked == 0,
		RTT:  time.Duration(info.Rtt) * time.Microsecond, MinRTT: leastRTT(info.Min_rtt),
		Retransmits: uint64(info.Total_retrans), Window: int64(info.Snd_wnd),
	}, true
}

// leastRTT returns the least round-trip time of TCP_INFO, which has it in microseconds; 0: it is not known. Before the first
// measurement the kernel has the largest number there.
func leastRTT(least uint32) time.Duration {
	if least == math.MaxUint32 {
		return 0
	}
	return time.Duration(least) * time.Microsecond
}
