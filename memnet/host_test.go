package memnet_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/memnet"
)

// dialFor dials for at most d and returns the error, which at the deadline is the net package's timeout.
func dialFor(t *testing.T, h *memnet.Host, address string, d time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	c, err := h.DialContext(ctx, "tcp", address)
	if err == nil {
		return c.Close()
	}
	var op *net.OpError
	require.ErrorAs(t, err, &op)
	require.Equal(t, "dial", op.Op)
	return err
}

func TestListen(t *testing.T) {
	h := memnet.New().Host("a")
	ln, err := h.Listen("2380")
	require.NoError(t, err)
	require.Equal(t, "a:2380", ln.Addr().String())
	require.Equal(t, "tcp", ln.Addr().Network())
	_, err = h.Listen("2380")
	requireFails(t, err, syscall.EADDRINUSE, false)

	require.NoError(t, ln.Close())
	require.NoError(t, ln.Close(), "again")
	again, err := h.Listen("2380")
	require.NoError(t, err)
	require.NoError(t, ln.Close(), "does not close its successor")
	require.NoError(t, dialFor(t, h, "a:2380", time.Second))
	require.NoError(t, again.Close())

	for _, port := range []string{"http", "-1", "65536", ":80"} {
		_, err := h.Listen(port)
		var bad *net.AddrError
		require.ErrorAs(t, err, &bad, port)
	}
}

func TestListenPicksAFreePort(t *testing.T) {
	h := memnet.New().Host("a")
	taken, err := h.Listen("32769")
	require.NoError(t, err)
	defer taken.Close()
	seen := map[string]bool{taken.Addr().String(): true}
	for _, port := range []string{"", "0", ""} {
		ln, err := h.Listen(port)
		require.NoError(t, err)
		defer ln.Close()
		require.False(t, seen[ln.Addr().String()], "picked twice")
		seen[ln.Addr().String()] = true
		require.NoError(t, dialFor(t, h, ln.Addr().String(), time.Second))
	}
}

func TestFreePortsGoRound(t *testing.T) {
	h := memnet.New().Host("a")
	for range 1 << 16 {
		ln, err := h.Listen("")
		require.NoError(t, err)
		require.NoError(t, ln.Close())
	}
}

func TestAcceptEndsWithTheListener(t *testing.T) {
	within(t, func(t *testing.T, n *memnet.Network) {
		ln, err := n.Host("b").Listen("80")
		require.NoError(t, err)
		waiting, err := n.Host("a").DialContext(t.Context(), "tcp", "b:80")
		require.NoError(t, err)
		defer waiting.Close()
		accepted, err := ln.Accept()
		require.NoError(t, err)
		defer accepted.Close()
		backlogged, err := n.Host("a").DialContext(t.Context(), "tcp", "b:80")
		require.NoError(t, err)
		defer backlogged.Close()

		require.NoError(t, ln.Close())
		_, err = ln.Accept()
		requireFails(t, err, net.ErrClosed, false)
		_, err = backlogged.Read(make([]byte, 1))
		requireFails(t, err, syscall.ECONNRESET, false)
		require.Zero(t, travelTime(t, waiting, accepted, "lives on"))

		ln, err = n.Host("b").Listen("80")
		require.NoError(t, err)
		time.AfterFunc(time.Second, func() { _ = ln.Close() })
		_, err = ln.Accept()
		requireFails(t, err, net.ErrClosed, false)
	})
}

func TestDialErrors(t *testing.T) {
	n := memnet.New()
	n.Host("b")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	tests := []struct {
		name             string
		ctx              context.Context
		network, address string
		check            func(error) bool
	}{
		{"no listener", t.Context(), "tcp", "b:80", func(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }},
		{"no host", t.Context(), "tcp", "c:80", func(err error) bool {
			var dns *net.DNSError
			return errors.As(err, &dns) && dns.IsNotFound
		}},
		{"no port", t.Context(), "tcp", "b", func(err error) bool {
			var bad *net.AddrError
			return errors.As(err, &bad)
		}},
		{"network", t.Context(), "udp", "b:80", func(err error) bool {
			var unknown net.UnknownNetworkError
			return errors.As(err, &unknown)
		}},
		{"context ended", ended, "tcp", "b:80", func(err error) bool { return errors.Is(err, context.Canceled) }},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			c, err := n.Host("a").DialContext(tc.ctx, tc.network, tc.address)
			require.Nil(t, c, "no typed nil")
			var op *net.OpError
			require.ErrorAs(t, err, &op)
			require.False(t, op.Timeout())
			require.True(t, tc.check(err), "%v", err)
		})
	}
}

func TestDialTakesARoundTrip(t *testing.T) {
	within(t, func(t *testing.T, n *memnet.Network) {
		ln, err := n.Host("b").Listen("80")
		require.NoError(t, err)
		defer ln.Close()
		n.Link("a", "b").SetDelay(time.Second)
		n.Link("b", "a").SetDelay(2 * time.Second)
		start := time.Now()
		require.NoError(t, dialFor(t, n.Host("a"), "b:80", time.Minute))
		require.Equal(t, 3*time.Second, time.Since(start))
		require.ErrorIs(t, dialFor(t, n.Host("a"), "b:81", time.Minute), syscall.ECONNREFUSED)
		require.Equal(t, 6*time.Second, time.Since(start))
		require.ErrorIs(t, dialFor(t, n.Host("a"), "b:80", time.Second), context.DeadlineExceeded)
		require.Equal(t, 7*time.Second, time.Since(start))
	})
}

func TestDialHangsWhileCut(t *testing.T) {
	for _, cut := range [][2]string{{"a", "b"}, {"b", "a"}} {
		t.Run(cut[0]+" to "+cut[1], func(t *testing.T) {
			within(t, func(t *testing.T, n *memnet.Network) {
				ln, err := n.Host("b").Listen("80")
				require.NoError(t, err)
				defer ln.Close()
				l := n.Link(cut[0], cut[1])
				l.SetDelay(time.Second)
				l.Cut()
				start := time.Now()
				err = dialFor(t, n.Host("a"), "b:80", time.Hour)
				require.ErrorIs(t, err, context.DeadlineExceeded)
				var timeout net.Error
				require.ErrorAs(t, err, &timeout)
				require.True(t, timeout.Timeout())
				require.Equal(t, time.Hour, time.Since(start))

				time.AfterFunc(time.Minute, l.Mend)
				start = time.Now()
				require.NoError(t, dialFor(t, n.Host("a"), "b:80", time.Hour))
				require.Equal(t, time.Minute+time.Second, time.Since(start), "goes on when it is mended")

				time.AfterFunc(time.Second/2, l.Cut)
				time.AfterFunc(time.Minute, l.Mend)
				start = time.Now()
				require.NoError(t, dialFor(t, n.Host("a"), "b:80", time.Hour))
				require.Equal(t, time.Minute+time.Second, time.Since(start), "cut on the way")
			})
		})
	}
}

func TestCrash(t *testing.T) {
	within(t, func(t *testing.T, n *memnet.Network) {
		a, b := connect(t, n)
		n.Link("b", "a").SetDelay(2 * time.Second)
		write(t, b, "lost on its way")
		results := blocked(t, a)
		start := time.Now()
		n.Host("b").Crash()
		_, err := b.Read(make([]byte, 1))
		requireFails(t, err, net.ErrClosed, false)
		for _, err := range results() {
			requireFails(t, err, syscall.ECONNRESET, false)
		}
		require.Equal(t, 2*time.Second, time.Since(start))
		require.ErrorIs(t, dialFor(t, n.Host("a"), "b:80", time.Minute), syscall.ECONNREFUSED)

		ln, err := n.Host("b").Listen("80")
		require.NoError(t, err)
		defer ln.Close()
		require.NoError(t, dialFor(t, n.Host("a"), "b:80", time.Minute), "restarted")
	})
}

func TestCrashBehindACut(t *testing.T) {
	within(t, func(t *testing.T, n *memnet.Network) {
		a, _ := connect(t, n)
		n.Partition([]string{"a"}, []string{"b"})
		n.Host("b").Crash()
		requireSilence(t, a)
		write(t, a, "to no one")
		n.Heal()
		_, err := a.Read(make([]byte, 1))
		requireFails(t, err, syscall.ECONNRESET, false)
	})
}

func TestCrashOfBothSides(t *testing.T) {
	within(t, func(t *testing.T, n *memnet.Network) {
		a, b := connect(t, n)
		n.Link("a", "b").SetDelay(time.Hour)
		write(t, a, "x")
		n.Host("a").Crash()
		n.Host("b").Crash()
		synctest.Wait()
		for _, c := range []net.Conn{a, b} {
			_, err := c.Read(make([]byte, 1))
			requireFails(t, err, net.ErrClosed, false)
			require.NotErrorIs(t, err, io.EOF)
			require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
		}
	})
}
