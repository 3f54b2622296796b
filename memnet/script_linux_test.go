package memnet_test

import (
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// tcpSocket is a TCP connection of the system.
type tcpSocket struct{ *net.TCPConn }

func (c tcpSocket) WriteBuffers(v *net.Buffers) (int64, error) { return v.WriteTo(c.TCPConn) }

func (c tcpSocket) SendFile(f *os.File, n int64) (int64, error) {
	return c.ReadFrom(&io.LimitedReader{R: f, N: n})
}

func (c tcpSocket) SetUserTimeout(d time.Duration) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
	})
}

// state is what the system has of a connection that may still change by itself; the zero value once it is closed.
func (c tcpSocket) state() (s [3]int) {
	raw, err := c.SyscallConn()
	if err != nil {
		return s
	}
	_ = raw.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			s[0] = int(info.State)
		}
		s[1], _ = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
		s[2], _ = unix.IoctlGetInt(int(fd), unix.SIOCINQ)
	})
	return s
}

// settle waits until the system has nothing more to do for two connections.
func settle(a, b tcpSocket) {
	tick := time.NewTicker(4 * time.Millisecond)
	defer tick.Stop()
	last := [2][3]int{{-1}}
	for same := 0; same < 2; <-tick.C {
		if now := [2][3]int{a.state(), b.state()}; now == last {
			same++
		} else {
			last, same = now, 0
		}
	}
}

// connectLoopback returns both ends of a connection of the system, with small buffers.
func connectLoopback(t *testing.T) (a, b tcpSocket) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	server, err := ln.Accept()
	require.NoError(t, err)
	a, b = tcpSocket{client.(*net.TCPConn)}, tcpSocket{server.(*net.TCPConn)}
	for _, c := range []tcpSocket{a, b} {
		require.NoError(t, c.SetReadBuffer(bufferSize))
		require.NoError(t, c.SetWriteBuffer(bufferSize))
	}
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	return a, b
}

// TestScriptsOnLoopback: what TestScriptsInMemory requires is what Linux does.
func TestScriptsOnLoopback(t *testing.T) {
	for name, script := range scripts {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // with each other, while the parent waits
			a, b := connectLoopback(t)
			play(t, script, a, b, func() { settle(a, b) })
		})
	}
}

// TestFullBacklogOnLoopback is TestFullBacklog on the system, where a second passes until the next SYN.
func TestFullBacklogOnLoopback(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	raw, err := ln.(*net.TCPListener).SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) { err = unix.Listen(int(fd), 1) }))
	require.NoError(t, err)
	dialer := func(patience time.Duration) *net.Dialer { return &net.Dialer{Timeout: patience} }
	requireBacklog(t, ln, func(patience time.Duration) (net.Conn, error) {
		return dialer(patience).Dial("tcp", ln.Addr().String())
	})

	// The system itself gives up, here by the user timeout, at the next SYN.
	d := dialer(time.Minute)
	d.Control = func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 1) })
	}
	_, err = d.Dial("tcp", ln.Addr().String())
	requireFails(t, err, syscall.ETIMEDOUT, true)
}
