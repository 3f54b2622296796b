package conn

import (
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// tcpPair returns both ends of a connection over loopback.
func tcpPair(t *testing.T) (client, server *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	s, err := ln.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { c.Close(); s.Close() })
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

// TestSendStateOfTCP: bytes are acknowledged whether they are read or not, until the buffer of an end that does not read is
// full; and all are once it reads.
func TestSendStateOfTCP(t *testing.T) {
	client, server := tcpPair(t)
	for _, c := range []net.Conn{client, tls.Client(client, &tls.Config{MinVersion: tls.VersionTLS12}), &Metered{Conn: client}} {
		g := NewSendGauge(c)
		require.NotNil(t, g.raw, "%T", c)
	}
	g := NewSendGauge(client)
	_, err := client.Write(make([]byte, 1000))
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		s, ok := g.SendState()
		return ok && s.Acked >= 1000 && s.Unacked == 0 && s.RTT > 0 && s.MinRTT > 0
	}, 10*time.Second, time.Millisecond, "although nobody reads")
	before, _ := g.SendState()

	require.NoError(t, client.SetWriteDeadline(time.Now().Add(time.Second)))
	written, err := client.Write(make([]byte, 64<<20))
	require.Error(t, err, "the buffers are full")
	require.Eventually(t, func() bool {
		s, ok := g.SendState()
		return ok && s.Shut && s.Unsent > 0 && s.Unacked == s.Unsent && s.Acked+s.Unacked == before.Acked+int64(written)
	}, 30*time.Second, time.Millisecond, "nothing is on its way, and the other end does not read")

	go func() { _, _ = io.Copy(io.Discard, server) }()
	require.Eventually(t, func() bool {
		s, ok := g.SendState()
		return ok && !s.Shut && s.Unacked == 0 && s.Acked == before.Acked+int64(written)
	}, 10*time.Second, time.Millisecond)

	require.NoError(t, client.Close())
	_, ok := g.SendState()
	require.False(t, ok, "it is closed")
}

// TestSendStateAddsUp: what is acknowledged while the system is asked is not counted twice. Else bytes would be waited for that
// were never written.
func TestSendStateAddsUp(t *testing.T) {
	client, server := tcpPair(t)
	go func() { _, _ = io.Copy(io.Discard, server) }()
	g := NewSendGauge(client)
	n, err := client.Write([]byte("x"))
	require.NoError(t, err)
	var syn int64 // counts as a byte at the end that has dialled
	require.Eventually(t, func() bool {
		s, ok := g.SendState()
		syn = s.Acked - int64(n)
		return ok && s.Unacked == 0 && syn >= 0
	}, 10*time.Second, time.Millisecond)
	piece := make([]byte, 4<<10)
	for written := syn + int64(n); written < 80<<20; {
		n, err := client.Write(piece)
		require.NoError(t, err)
		written += int64(n)
		s, ok := g.SendState()
		require.True(t, ok)
		require.LessOrEqual(t, s.Acked+s.Unacked, written)
	}
}

// TestSendStateAllocatesNothing: it is asked while messages are sent.
func TestSendStateAllocatesNothing(t *testing.T) {
	client, _ := tcpPair(t)
	_, err := client.Write([]byte("x"))
	require.NoError(t, err)
	g := NewSendGauge(client)
	require.Zero(t, testing.AllocsPerRun(100, func() { g.SendState() }))
}

// BenchmarkSendState is what it costs to ask the kernel.
func BenchmarkSendState(b *testing.B) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(b, err)
	defer c.Close()
	g := NewSendGauge(c)
	for b.Loop() {
		g.SendState()
	}
}
