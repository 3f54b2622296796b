package faultproxy_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/seed-4d73690b/rafthttp/memnet/faultproxy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what must happen; shortly is how long what must not happen is waited for.
const (
	patience = 20 * time.Second
	shortly  = 50 * time.Millisecond
)

// rig is a proxy before a target that the test operates by hand.
type rig struct {
	*faultproxy.Proxy
	ln net.Listener
}

func newRig(t *testing.T, options ...faultproxy.Option) *rig {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p, err := faultproxy.Listen("127.0.0.1:0", ln.Addr().String(), options...)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, p.Close())
		require.NoError(t, p.Close(), "again")
		require.Zero(t, p.Connections())
		ln.Close()
	})
	return &rig{p, ln}
}

// connect returns both ends of a new connection through the proxy.
func (r *rig) connect(t *testing.T) (client, target *net.TCPConn) {
	t.Helper()
	c, err := net.Dial("tcp", r.Addr())
	require.NoError(t, err)
	s, err := r.ln.Accept()
	require.NoError(t, err)
	require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
	require.NoError(t, s.SetDeadline(time.Now().Add(patience)))
	t.Cleanup(func() { _, _ = c.Close(), s.Close() })
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

func requirePasses(t *testing.T, from, to net.Conn, text string) {
	t.Helper()
	_, err := io.WriteString(from, text)
	require.NoError(t, err)
	requireReads(t, to, text)
}

func requireReads(t *testing.T, c net.Conn, text string) {
	t.Helper()
	got := make([]byte, len(text))
	_, err := io.ReadFull(c, got)
	require.NoError(t, err)
	require.Equal(t, text, string(got))
}

// requireSilence checks that nothing can be read, not even an end.
func requireSilence(t *testing.T, c net.Conn) {
	t.Helper()
	require.NoError(t, c.SetReadDeadline(time.Now().Add(shortly)))
	_, err := c.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, c.SetReadDeadline(time.Now().Add(patience)))
}

func requireReset(t *testing.T, c net.Conn) {
	t.Helper()
	_, err := io.Copy(io.Discard, c)
	require.ErrorIs(t, err, syscall.ECONNRESET)
}

func (r *rig) requireConnections(t *testing.T, n int) {
	t.Helper()
	require.Eventually(t, func() bool { return r.Connections() == n }, patience, time.Millisecond)
}

func TestPassesAllAndTheEnds(t *testing.T) {
	r := newRig(t, faultproxy.WithSocketBuffers(256<<10))
	client, target := r.connect(t)
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	for _, way := range [][2]*net.TCPConn{{client, target}, {target, client}} {
		wrote := make(chan error, 1)
		go func() {
			_, err := way[0].Write(data)
			wrote <- errors.Join(err, way[0].CloseWrite())
		}()
		got, err := io.ReadAll(way[1])
		require.NoError(t, err)
		require.True(t, bytes.Equal(data, got))
		require.NoError(t, <-wrote)
	}
	r.requireConnections(t, 0)
}

func TestTargetThatIsNotThere(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.ln.Close())
	c, err := net.Dial("tcp", r.Addr())
	if err == nil { // the reset may come before the dial has ended
		defer c.Close()
		_, err = io.Copy(io.Discard, c)
	}
	require.ErrorIs(t, err, syscall.ECONNRESET)
}

func TestListenFails(t *testing.T) {
	r := newRig(t)
	_, err := faultproxy.Listen(r.Addr(), "127.0.0.1:1")
	require.ErrorIs(t, err, syscall.EADDRINUSE)
}

// ways runs a test for each direction of a connection.
func ways(t *testing.T, test func(t *testing.T, r *rig, d *faultproxy.Direction, from, to *net.TCPConn)) {
	t.Helper()
	t.Run("to the target", func(t *testing.T) {
		r := newRig(t)
		client, target := r.connect(t)
		test(t, r, r.ToTarget(), client, target)
	})
	t.Run("to the client", func(t *testing.T) {
		r := newRig(t)
		client, target := r.connect(t)
		test(t, r, r.ToClient(), target, client)
	})
}

func TestPause(t *testing.T) {
	ways(t, func(t *testing.T, _ *rig, d *faultproxy.Direction, from, to *net.TCPConn) {
		d.Pause()
		_, err := io.WriteString(from, "held back")
		require.NoError(t, err)
		requireSilence(t, to)
		requirePasses(t, to, from, "the other way")
		d.Resume()
		requireReads(t, to, "held back")

		d.Pause()
		require.NoError(t, from.CloseWrite())
		requireSilence(t, to)
		d.Resume()
		_, err = to.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF)
	})
}

func TestPauseStopsTheWriter(t *testing.T) {
	ways(t, func(t *testing.T, _ *rig, d *faultproxy.Direction, from, to *net.TCPConn) {
		d.Pause()
		require.NoError(t, from.SetWriteDeadline(time.Now().Add(5*shortly)))
		n, err := from.Write(make([]byte, 64<<20))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Less(t, n, 64<<20)
		d.Resume()
		_, err = io.ReadFull(to, make([]byte, n))
		require.NoError(t, err, "nothing is lost")
	})
}

func TestResetWhilePausedIsNewsOnlyLater(t *testing.T) {
	ways(t, func(t *testing.T, _ *rig, d *faultproxy.Direction, from, to *net.TCPConn) {
		requirePasses(t, from, to, "x")
		d.Pause()
		require.NoError(t, from.SetLinger(0))
		require.NoError(t, from.Close())
		requireSilence(t, to)
		_, err := io.WriteString(to, "to nobody")
		require.NoError(t, err)
		requireSilence(t, to)
		d.Resume()
		requireReset(t, to)
	})
}

func TestCut(t *testing.T) {
	ways(t, func(t *testing.T, r *rig, d *faultproxy.Direction, from, to *net.TCPConn) {
		d.Cut()
		_, err := io.WriteString(from, "lost")
		require.NoError(t, err)
		requireSilence(t, to)
		requirePasses(t, to, from, "the other way")
		d.Mend()
		requireReset(t, to)
		requireReset(t, from)
		r.requireConnections(t, 0)
	})
}

func TestCutTakesAllThereIs(t *testing.T) {
	ways(t, func(t *testing.T, _ *rig, d *faultproxy.Direction, from, to *net.TCPConn) {
		d.Cut()
		_, err := from.Write(make([]byte, 16<<20))
		require.NoError(t, err, "more than all buffers hold")
		require.NoError(t, from.CloseWrite())
		requireSilence(t, to)
	})
}

func TestMendWithNothingLost(t *testing.T) {
	ways(t, func(t *testing.T, _ *rig, d *faultproxy.Direction, from, to *net.TCPConn) {
		d.Cut()
		require.NoError(t, from.CloseWrite())
		requireSilence(t, to)
		d.Mend()
		_, err := to.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF)
		requirePasses(t, to, from, "the other way goes on")
	})
}

func TestHalfOpen(t *testing.T) {
	ways(t, func(t *testing.T, r *rig, d *faultproxy.Direction, near, far *net.TCPConn) {
		requirePasses(t, near, far, "x")
		d.HalfOpen()
		_, err := far.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF)
		require.NoError(t, far.Close())
		requireSilence(t, near)
		_, err = near.Write(make([]byte, 16<<20))
		require.NoError(t, err, "more than all buffers hold")
		requireSilence(t, near)
		require.Equal(t, 1, r.Connections())

		c, s := r.connect(t)
		requirePasses(t, c, s, "a connection made later is whole")
		requirePasses(t, s, c, "both ways")
		require.NoError(t, near.Close())
		r.requireConnections(t, 1)
	})
}

func TestReset(t *testing.T) {
	r := newRig(t)
	client, target := r.connect(t)
	requirePasses(t, client, target, "x")
	r.Reset()
	requireReset(t, client)
	requireReset(t, target)
	r.requireConnections(t, 0)
	client, target = r.connect(t)
	requirePasses(t, client, target, "again")
}

func TestCutAfter(t *testing.T) {
	passed := func(t *testing.T, seed uint64) {
		t.Helper()
		r := newRig(t, faultproxy.WithSeed(seed))
		r.ToTarget().CutAfter(100_000)
		client, target := r.connect(t)
		go func() { _, _ = client.Write(make([]byte, 200_000)) }()
		n, err := io.Copy(io.Discard, target)
		require.ErrorIs(t, err, syscall.ECONNRESET)
		require.LessOrEqual(t, n, int64(100_000))
		r.ToTarget().CutAfter(0)
		client, target = r.connect(t)
		go func() { _, _ = client.Write(make([]byte, 200_000)) }()
		_, err = io.ReadFull(target, make([]byte, 200_000))
		require.NoError(t, err)
	}
	passed(t, 1)
	passed(t, 2)
	t.Run("a connection there is", func(t *testing.T) {
		r := newRig(t)
		client, target := r.connect(t)
		requirePasses(t, target, client, "whole")
		r.ToClient().CutAfter(1)
		_, err := io.WriteString(target, "xyz")
		require.NoError(t, err)
		n, err := io.Copy(io.Discard, client)
		require.ErrorIs(t, err, syscall.ECONNRESET)
		require.LessOrEqual(t, n, int64(1))
	})
}

func TestDelay(t *testing.T) {
	ways(t, func(t *testing.T, _ *rig, d *faultproxy.Direction, from, to *net.TCPConn) {
		d.SetDelay(2 * shortly)
		start := time.Now()
		requirePasses(t, from, to, "late")
		require.GreaterOrEqual(t, time.Since(start), 2*shortly)
		d.SetDelay(time.Hour)
		_, err := io.WriteString(from, "much later")
		require.NoError(t, err)
		requireSilence(t, to)
		d.SetDelay(0)
		requireReads(t, to, "much later")
	})
}

func TestBandwidth(t *testing.T) {
	ways(t, func(t *testing.T, _ *rig, d *faultproxy.Direction, from, to *net.TCPConn) {
		d.SetBandwidth(1000)
		start := time.Now()
		_, err := from.Write(make([]byte, 200))
		require.NoError(t, err)
		_, err = io.ReadFull(to, make([]byte, 200))
		require.NoError(t, err)
		require.GreaterOrEqual(t, time.Since(start), 190*time.Millisecond)
		d.SetBandwidth(1)
		_, err = io.WriteString(from, "slow")
		require.NoError(t, err)
		requireSilence(t, to)
		d.SetBandwidth(0)
		requireReads(t, to, "slow")
	})
}

// TestBandwidthMakesUpForLateTimers sends pieces of a millisecond, each of which leaves late by as much again: the line
// carries its bandwidth all the same. An idle line saves nothing up.
func TestBandwidthMakesUpForLateTimers(t *testing.T) {
	const bandwidth, piece = 10 << 20, 10 << 10
	r := newRig(t)
	d := r.ToTarget()
	d.SetBandwidth(bandwidth)
	start := time.Now()
	now := start
	sent := 0
	for now.Sub(start) < time.Second {
		n, due := d.Reserve(now, piece)
		require.Equal(t, piece, n)
		sent += n
		if late := due.Add(time.Millisecond); late.After(now) {
			now = late
		}
	}
	require.InEpsilon(t, bandwidth, sent, 0.03)
	now = now.Add(time.Hour)
	_, due := d.Reserve(now, piece)
	require.True(t, due.After(now))
}

// TestInFlight fills a direction that holds everything back: the proxy takes what it was told to, besides what the system
// buffers.
func TestInFlight(t *testing.T) {
	const inFlight = 32 << 20
	r := newRig(t, faultproxy.WithInFlight(inFlight), faultproxy.WithSocketBuffers(64<<10))
	r.ToTarget().SetDelay(time.Hour)
	client, _ := r.connect(t)
	n, err := client.Write(make([]byte, inFlight/2))
	require.NoError(t, err)
	require.Equal(t, inFlight/2, n)
}

// TestCloseEndsAll closes a proxy whose connections are in every state there is; the leak check of the package looks.
func TestCloseEndsAll(t *testing.T) {
	faults := map[string]func(d *faultproxy.Direction){
		"none": func(*faultproxy.Direction) {}, "paused": (*faultproxy.Direction).Pause, "cut": (*faultproxy.Direction).Cut,
		"half-open": (*faultproxy.Direction).HalfOpen,
		"delayed":   func(d *faultproxy.Direction) { d.SetDelay(time.Hour) },
		"slow":      func(d *faultproxy.Direction) { d.SetBandwidth(1) },
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			ways(t, func(t *testing.T, r *rig, d *faultproxy.Direction, from, to *net.TCPConn) {
				fault(d)
				require.NoError(t, from.SetWriteDeadline(time.Now().Add(shortly)))
				_, _ = from.Write(make([]byte, 4<<20)) // and nobody reads
				require.NoError(t, r.Close())
				require.Zero(t, r.Connections())
				_, err := net.Dial("tcp", r.Addr())
				require.ErrorIs(t, err, syscall.ECONNREFUSED)
			})
		})
	}
}
