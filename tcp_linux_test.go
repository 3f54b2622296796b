package rafthttp_test

import (
	"context"
	"crypto/tls"
	"io"
	"math"
	"net"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
	"golang.org/x/sys/unix"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/conn"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
)

// socketOption reads an option of a TCP connection.
func socketOption(t *testing.T, c syscall.Conn, level, option int) (value int) {
	t.Helper()
	raw, err := c.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) {
		value, err = syscall.GetsockoptInt(int(fd), level, option)
	}))
	require.NoError(t, err)
	return value
}

// requireTimeouts checks after what silence the system gives a connection up.
func requireTimeouts(t *testing.T, c net.Conn, timeout time.Duration) {
	t.Helper()
	tcp := c.(syscall.Conn)
	require.EqualValues(t, timeout.Milliseconds(), socketOption(t, tcp, syscall.IPPROTO_TCP, 18), "TCP_USER_TIMEOUT")
	require.Equal(t, 1, socketOption(t, tcp, syscall.SOL_SOCKET, syscall.SO_KEEPALIVE))
	idle := socketOption(t, tcp, syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE)
	probes := socketOption(t, tcp, syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL) * socketOption(t, tcp, syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT)
	require.Equal(t, 2*timeout, time.Duration(idle+probes)*time.Second, "keep-alive")
}

// capture is a listener that shows what it accepted.
type capture struct {
	net.Listener
	conns chan net.Conn
}

func (c *capture) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.conns <- conn
	}
	return conn, err
}

func TestTimeoutsOfDialledConnections(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	for name, tc := range map[string]struct {
		read, write, want time.Duration
	}{
		"by default":         {0, 0, 5 * time.Second},
		"the longer of both": {10 * time.Second, 15 * time.Second, 15 * time.Second},
		"a second at least":  {100 * time.Millisecond, 50 * time.Millisecond, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			tr := &rafthttp.Transport{ID: 1, Raft: &testmember.Recorder{}, ReadTimeout: tc.read, WriteTimeout: tc.write}
			c, err := tr.DialPlain(t.Context(), ln.Addr().String())
			require.NoError(t, err)
			defer c.Close()
			if tc.want == time.Second { // five probes, each a whole second apart
				require.Equal(t, 1000, socketOption(t, c.(syscall.Conn), syscall.IPPROTO_TCP, 18))
				return
			}
			requireTimeouts(t, c, tc.want)
		})
	}
}

// TestTimeoutsOverThoseOfTheSystem: a timeout that the system has no room for
// becomes the longest that it has, not a short one, nor its own.
func TestTimeoutsOverThoseOfTheSystem(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	const overflowing = 1 << 32 * time.Millisecond // and five seconds, for a system that counts in 32 bits
	for _, timeout := range []time.Duration{10 * time.Hour, 30 * 24 * time.Hour, overflowing + 5*time.Second, longest} {
		tr := &rafthttp.Transport{ID: 1, Raft: &testmember.Recorder{}, ReadTimeout: timeout}
		c, err := tr.DialPlain(t.Context(), ln.Addr().String())
		require.NoError(t, err)
		tcp := c.(syscall.Conn)
		require.EqualValues(t, min(timeout.Milliseconds(), math.MaxInt32), socketOption(t, tcp, syscall.IPPROTO_TCP, 18))
		require.Equal(t, 32767, socketOption(t, tcp, syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE))
		interval := min(timeout/5, 32767*time.Second)
		require.Equal(t, int(interval/time.Second), socketOption(t, tcp, syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL))
		require.Equal(t, 5, socketOption(t, tcp, syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT))
		require.NoError(t, c.Close())
	}
}

func TestTimeoutsOfAcceptedConnections(t *testing.T) {
	ln, err := rafthttp.NewListener(url.URL{Scheme: "http", Host: "127.0.0.1:0"}, nil)
	require.NoError(t, err)
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	accepted, err := ln.Accept()
	require.NoError(t, err)
	defer accepted.Close()
	requireTimeouts(t, below(accepted), 5*time.Second)
}

// TestTimeoutsOfStreams: a stream has the timeouts of its transport, whoever's
// listener it came from.
func TestTimeoutsOfStreams(t *testing.T) {
	for name, wrap := range map[string]func(net.Listener) net.Listener{
		"plain": func(l net.Listener) net.Listener { return l },
		"with deadlines": func(l net.Listener) net.Listener {
			return testmember.NewDeadlineListener(l, testmember.ReadTimeout, testmember.WriteTimeout)
		},
		"encrypted, and both": nil,
	} {
		t.Run(name, func(t *testing.T) {
			plain, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			seen := &capture{plain, make(chan net.Conn, 100)}
			var ln net.Listener
			if wrap != nil {
				ln = wrap(seen)
			} else {
				server := httptest.NewTLSServer(nil)
				defer server.Close()
				ln = tls.NewListener(testmember.NewDeadlineListener(seen, testmember.ReadTimeout, testmember.WriteTimeout), &tls.Config{Certificates: server.TLS.Certificates})
			}
			m := testmember.StartOn(t, ln, 1, func(tr *rafthttp.Transport) { tr.ReadTimeout = 20 * time.Second })
			m.AddPeer(2, []string{testmember.RefusingURL})
			dial := testmember.DialLoopback
			if wrap == nil {
				dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
					return (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(ctx, network, addr)
				}
			}
			testmember.DialStream(t, dial, m, "message", 2)
			requireTimeouts(t, <-seen.conns, 20*time.Second)
		})
	}
}

// givesWay reports whether the kernel prefers everything else to a connection, as far as it can.
func givesWay(c net.Conn) bool {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return false
	}
	var priority, unsent int
	err = raw.Control(func(fd uintptr) {
		priority, _ = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_PRIORITY)
		unsent, _ = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, 25)
	})
	return err == nil && priority == 2 && unsent == 1<<20
}

// TestSnapshotGivesWayInKernel: in the queue of a network device that has bands, a snapshot comes last, and little of it
// waits in the kernel. Streams are as others are.
func TestSnapshotGivesWayInKernel(t *testing.T) {
	var mu sync.Mutex
	var dialled []net.Conn
	a := testmember.Start(t, 1, func(tr *rafthttp.Transport) {
		tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := testmember.DialLoopback(ctx, network, addr)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				dialled = append(dialled, c)
			}
			return c, err
		}
	})
	b := testmember.Start(t, 2, testmember.Receives(testmember.SavesAll))
	testmember.Connect(t, a, b)
	giving := func() (n int) {
		mu.Lock()
		defer mu.Unlock()
		for _, c := range dialled {
			if givesWay(c) {
				n++
			}
		}
		return n
	}
	require.Zero(t, giving())
	meanwhile := 0
	look := testmember.ReaderFunc(func([]byte) (int, error) {
		meanwhile = giving()
		return 0, io.EOF
	})
	m := testmember.NewSnapshot(&testmember.Database{Reader: io.MultiReader(strings.NewReader("database"), look)}, 8)
	a.SendSnapshot(m)
	require.True(t, <-m.CloseNotify())
	require.Equal(t, 1, meanwhile)

	c, err := net.Dial("tcp", strings.TrimPrefix(b.URL, "http://"))
	require.NoError(t, err)
	defer c.Close()
	kept, _ := testmember.KeptConn(c)
	conn.GiveWay(tls.Client(kept, nil))
	require.True(t, givesWay(c), "below TLS")
	near := false
	require.NoError(t, rawOf(t, c).Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		near = err == nil && min(info.Rtt, info.Min_rtt) <= 60 // microseconds; a busy machine may take longer
	}))
	buffer := socketOption(t, c.(syscall.Conn), syscall.SOL_SOCKET, syscall.SO_SNDBUF)
	require.Equal(t, near, buffer == sendBufferOf(t, 96<<10), "send buffer of %d bytes", buffer)
}

func rawOf(t *testing.T, c net.Conn) syscall.RawConn {
	t.Helper()
	raw, err := c.(syscall.Conn).SyscallConn()
	require.NoError(t, err)
	return raw
}

// sendBufferOf is what the system makes of a send buffer of size bytes.
func sendBufferOf(t *testing.T, size int) int {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	require.NoError(t, err)
	defer syscall.Close(fd)
	require.NoError(t, syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_SNDBUF, size))
	size, err = syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_SNDBUF)
	require.NoError(t, err)
	return size
}

// TestNearStreamsHaveBoundedSendBuffers: loopback is near.
func TestNearStreamsHaveBoundedSendBuffers(t *testing.T) {
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	seen := &capture{plain, make(chan net.Conn, 100)}
	m := testmember.StartOn(t, seen, 1, nil)
	m.AddPeer(2, []string{testmember.RefusingURL})
	for _, kind := range []string{"message", "msgapp"} {
		testmember.DialStream(t, testmember.DialLoopback, m, kind, 2)
		accepted := (<-seen.conns).(syscall.Conn)
		require.Equal(t, sendBufferOf(t, 512<<10), socketOption(t, accepted, syscall.SOL_SOCKET, syscall.SO_SNDBUF), kind)
	}
}

// TestSmallMessagesAreAcknowledgedTogether: the kernel is told to put acknowledgements
// off while a stream brings one small message after another, and not for bulk.
func TestSmallMessagesAreAcknowledgedTogether(t *testing.T) {
	for name, tt := range map[string]struct {
		message func(i uint64) *raftpb.Message
		delayed bool
	}{
		"heartbeats":    {func(i uint64) *raftpb.Message { return testmember.Heartbeat(2, 1, i) }, true},
		"small appends": {func(i uint64) *raftpb.Message { return testmember.MsgApp(2, 1, i, make([]byte, 256)) }, true},
		"large appends": {func(i uint64) *raftpb.Message { return testmember.MsgApp(2, 1, i, make([]byte, 64<<10)) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			if testmember.TinyBuffers && !tt.delayed {
				t.Skip("large appends come by small reads, as small ones do")
			}
			dialled := make(chan net.Conn, 100)
			a := testmember.Start(t, 1, nil)
			b := testmember.Start(t, 2, func(tr *rafthttp.Transport) {
				tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
					c, err := testmember.DialLoopback(ctx, network, addr)
					if err == nil {
						dialled <- c
					}
					return c, err
				}
			})
			testmember.Connect(t, a, b)
			streams := []syscall.Conn{(<-dialled).(syscall.Conn), (<-dialled).(syscall.Conn)}
			sent := 0
			// The kernel forgets it 40 ms after the last message, so it is asked while they come.
			delayed := func() bool {
				for range 100 {
					sent++
					a.Send([]*raftpb.Message{tt.message(uint64(sent))})
					testmember.Eventually(t, func() bool { return len(b.Recorder.Received()) == sent })
					for _, c := range streams {
						if socketOption(t, c, syscall.IPPROTO_TCP, syscall.TCP_QUICKACK) == 0 {
							return true
						}
					}
				}
				return false
			}
			if tt.delayed {
				testmember.Eventually(t, delayed)
			} else {
				require.False(t, delayed())
			}
		})
	}
}

// below returns what a connection of deadlineListener or NewListener wraps.
func below(c net.Conn) net.Conn { return c.(interface{ NetConn() net.Conn }).NetConn() }
