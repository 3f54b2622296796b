package memnet_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

var _ net.Conn = (*memnet.Conn)(nil)

// within runs a test body in a bubble on a new network.
func within(t *testing.T, body func(t *testing.T, n *memnet.Network)) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) { body(t, memnet.New()) })
}

func TestAddresses(t *testing.T) {
	a, b := connect(t, memnet.New())
	require.Equal(t, "b:80", a.RemoteAddr().String())
	require.Equal(t, "b:80", b.LocalAddr().String())
	require.Equal(t, a.LocalAddr(), b.RemoteAddr())
	require.Equal(t, "tcp", a.LocalAddr().Network())
	host, port, err := net.SplitHostPort(a.LocalAddr().String())
	require.NoError(t, err)
	require.Equal(t, "a", host)
	require.NotEqual(t, "80", port)
}

func TestTransferBothWays(t *testing.T) {
	links := map[string]func(*memnet.Link){
		"instant": func(*memnet.Link) {},
		"slow, jittery, lossy and narrow": func(l *memnet.Link) {
			l.SetDelay(30 * time.Millisecond)
			l.SetJitter(20 * time.Millisecond)
			l.SetLoss(0.1)
			l.SetBandwidth(10 << 20)
		},
	}
	for name, set := range links {
		t.Run(name, func(t *testing.T) {
			bothKinds(t, func(t *testing.T, n *memnet.Network, _ bool) {
				set(n.Link("a", "b"))
				set(n.Link("b", "a"))
				a, b := connect(t, n)
				want := make([]byte, 3<<20)
				for i := range want {
					want[i] = byte(rand.Uint32())
				}
				var wg sync.WaitGroup
				for _, c := range []net.Conn{a, b} {
					wg.Go(func() {
						if k, err := c.Write(want); k != len(want) || err != nil {
							t.Errorf("wrote %d bytes: %v", k, err)
						}
						if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
							t.Error(err)
						}
					})
					wg.Go(func() {
						if got, err := io.ReadAll(c); err != nil || !bytes.Equal(want, got) {
							t.Errorf("read %d bytes: %v", len(got), err)
						}
					})
				}
				wg.Wait()
			})
		})
	}
}

func TestWindowBoundsTheWriter(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		a, b := connect(t, memnet.New(memnet.WithBuffer(1000)))
		require.Equal(t, 1000, fill(t, a))
		requireRead(t, b, string(make([]byte, 10)))
		require.Equal(t, 10, fill(t, a), "as many as were read")
	})
	within(t, func(t *testing.T, n *memnet.Network) {
		a, _ := connect(t, n)
		require.Equal(t, 64<<10, fill(t, a))
	})
}

func TestDeadlines(t *testing.T) {
	calls := map[string]struct {
		set  func(net.Conn, time.Time) error
		call func(net.Conn) error
	}{
		"read":       {net.Conn.SetReadDeadline, func(c net.Conn) error { _, err := c.Read(make([]byte, 1)); return err }},
		"read, both": {net.Conn.SetDeadline, func(c net.Conn) error { _, err := c.Read(make([]byte, 1)); return err }},
		"write": {net.Conn.SetWriteDeadline, func(c net.Conn) error {
			_, err := c.Write(make([]byte, 1<<20))
			return err
		}},
		"write, both": {net.Conn.SetDeadline, func(c net.Conn) error { _, err := c.Write(make([]byte, 1<<20)); return err }},
	}
	for name, tc := range calls {
		t.Run(name, func(t *testing.T) {
			within(t, func(t *testing.T, n *memnet.Network) {
				a, _ := connect(t, n)
				start := time.Now()
				require.NoError(t, tc.set(a, start.Add(3*time.Second)))
				requireFails(t, tc.call(a), os.ErrDeadlineExceeded, true)
				require.Equal(t, 3*time.Second, time.Since(start))
				requireFails(t, tc.call(a), os.ErrDeadlineExceeded, true)
				require.Equal(t, 3*time.Second, time.Since(start), "it stays expired")

				require.NoError(t, tc.set(a, time.Time{}))
				time.AfterFunc(2*time.Second, func() { _ = tc.set(a, time.Now().Add(time.Second)) })
				requireFails(t, tc.call(a), os.ErrDeadlineExceeded, true)
				require.Equal(t, 6*time.Second, time.Since(start), "set while the call blocked")

				require.NoError(t, tc.set(a, time.Now().Add(time.Second)))
				time.AfterFunc(500*time.Millisecond, func() { _ = tc.set(a, time.Now().Add(time.Second)) })
				requireFails(t, tc.call(a), os.ErrDeadlineExceeded, true)
				require.Equal(t, 7500*time.Millisecond, time.Since(start), "moved while the call blocked")

				require.NoError(t, tc.set(a, time.Time{}))
				time.AfterFunc(time.Second, func() { _ = tc.set(a, time.Unix(1, 0)) })
				requireFails(t, tc.call(a), os.ErrDeadlineExceeded, true)
				require.Equal(t, 8500*time.Millisecond, time.Since(start), "in the past, while the call blocked")

				require.NoError(t, tc.set(a, time.Now().Add(time.Minute)))
				require.NoError(t, tc.set(a, time.Now().Add(time.Second)))
				requireFails(t, tc.call(a), os.ErrDeadlineExceeded, true)
				require.Equal(t, 9500*time.Millisecond, time.Since(start), "nearer than before")

				for i := range 10 {
					time.AfterFunc(time.Duration(i)*300*time.Millisecond, func() { _ = tc.set(a, time.Now().Add(time.Second)) })
				}
				require.NoError(t, tc.set(a, time.Now().Add(time.Second)))
				requireFails(t, tc.call(a), os.ErrDeadlineExceeded, true)
				require.Equal(t, 13200*time.Millisecond, time.Since(start), "put off again and again")

				require.NoError(t, tc.set(a, time.Now().Add(time.Second)))
				require.NoError(t, tc.set(a, time.Time{}))
				time.AfterFunc(5*time.Second, func() { _ = tc.set(a, time.Now()) })
				requireFails(t, tc.call(a), os.ErrDeadlineExceeded, true)
				require.Equal(t, 18200*time.Millisecond, time.Since(start), "taken off before it came")
			})
		})
	}
}

func TestPastReadDeadlineHidesData(t *testing.T) {
	a, b := connect(t, memnet.New())
	write(t, a, "x")
	require.NoError(t, b.SetReadDeadline(time.Unix(1, 0)))
	_, err := b.Read(make([]byte, 1))
	requireFails(t, err, os.ErrDeadlineExceeded, true)
	require.NoError(t, b.SetReadDeadline(time.Time{}))
	requireRead(t, b, "x")
}

// blocked starts a Read and two Writes that block, and returns a function that waits for their errors.
func blocked(t *testing.T, c net.Conn) (results func() []error) {
	t.Helper()
	fill(t, c)
	errs := make(chan error, 3)
	go func() { _, err := c.Read(make([]byte, 1)); errs <- err }()
	for range 2 {
		go func() { _, err := c.Write(make([]byte, 1)); errs <- err }()
	}
	synctest.Wait()
	require.Empty(t, errs)
	return func() []error { return []error{<-errs, <-errs, <-errs} }
}

func TestCloseEndsBlockedCalls(t *testing.T) {
	within(t, func(t *testing.T, n *memnet.Network) {
		a, _ := connect(t, n)
		results := blocked(t, a)
		require.NoError(t, a.Close())
		for _, err := range results() {
			requireFails(t, err, net.ErrClosed, false)
		}
		require.NoError(t, a.Close(), "again")
		requireFails(t, a.SetDeadline(time.Now()), net.ErrClosed, false)
		requireFails(t, a.(*memnet.Conn).CloseWrite(), net.ErrClosed, false)
	})
}

func TestCloseTravels(t *testing.T) {
	within(t, func(t *testing.T, n *memnet.Network) {
		a, b := connect(t, n)
		n.Link("a", "b").SetDelay(time.Second)
		start := time.Now()
		write(t, a, "last words")
		require.NoError(t, a.Close())
		write(t, b, "b does not know yet")
		requireRead(t, b, "last words")
		_, err := b.Read(make([]byte, 1))
		require.Equal(t, io.EOF, err, "bare")
		require.Equal(t, time.Second, time.Since(start))
		_, err = b.Write([]byte("x"))
		requireFails(t, err, syscall.EPIPE, false)
	})
}

func TestCloseEndsBlockedWritesOfPeer(t *testing.T) {
	within(t, func(t *testing.T, n *memnet.Network) {
		a, b := connect(t, n)
		fill(t, b)
		n.Link("a", "b").SetDelay(time.Second)
		n.Link("b", "a").Cut()
		start := time.Now()
		time.AfterFunc(time.Second, func() { _ = a.Close() })
		_, err := b.Write([]byte("x"))
		requireFails(t, err, syscall.EPIPE, false)
		require.Equal(t, 2*time.Second, time.Since(start))
	})
}

func TestCloseWrite(t *testing.T) {
	within(t, func(t *testing.T, n *memnet.Network) {
		a, b := connect(t, n)
		write(t, a, "request")
		require.NoError(t, a.(*memnet.Conn).CloseWrite())
		require.NoError(t, a.(*memnet.Conn).CloseWrite(), "again")
		_, err := a.Write([]byte("x"))
		requireFails(t, err, syscall.EPIPE, false)

		got, err := io.ReadAll(b)
		require.NoError(t, err)
		require.Equal(t, "request", string(got))
		write(t, b, "response")
		requireRead(t, a, "response")
		require.NoError(t, b.Close())
		_, err = a.Read(make([]byte, 1))
		require.Equal(t, io.EOF, err)
	})
}

func TestPartialWriteIsDelivered(t *testing.T) {
	within(t, func(t *testing.T, n *memnet.Network) {
		a, b := connect(t, n)
		want := bytes.Repeat([]byte("0123456789abcdef"), 8192)
		require.NoError(t, a.SetWriteDeadline(time.Now().Add(time.Second)))
		sent, err := a.Write(want)
		requireFails(t, err, os.ErrDeadlineExceeded, true)
		require.Equal(t, 64<<10, sent)
		require.NoError(t, a.Close())
		got, err := io.ReadAll(b)
		require.NoError(t, err)
		require.Equal(t, want[:sent], got)
	})
}

func TestConcurrentWritesDoNotMix(t *testing.T) {
	const size, writers, rounds = 50, 4, 50
	bubble.Test(t, func(t *testing.T) {
		a, b := connect(t, memnet.New(memnet.WithBuffer(10)))
		for range rounds {
			for w := range writers {
				go func() { _, _ = a.Write(bytes.Repeat([]byte{byte(w)}, size)) }()
			}
			for range writers {
				synctest.Wait() // all writers wait, one of them amid its bytes
				got := make([]byte, size)
				_, err := io.ReadFull(b, got)
				require.NoError(t, err)
				require.Equal(t, bytes.Repeat(got[:1], size), got)
			}
		}
	})
}

func TestWriteWaitingForItsTurnHasADeadline(t *testing.T) {
	within(t, func(t *testing.T, n *memnet.Network) {
		a, _ := connect(t, n)
		results := blocked(t, a)
		require.NoError(t, a.SetDeadline(time.Now().Add(time.Second)))
		for _, err := range results() {
			requireFails(t, err, os.ErrDeadlineExceeded, true)
		}
	})
}

func TestClosedConnectionsAreForgotten(t *testing.T) {
	n := memnet.New()
	a, b := connect(t, n)
	require.NoError(t, a.Close())
	require.Equal(t, 2, n.Sides(), "b may still read")
	require.NoError(t, b.Close())
	require.Zero(t, n.Sides())
}

func TestEmptyReadAndWrite(t *testing.T) {
	a, b := connect(t, memnet.New())
	n, err := a.Read(nil)
	require.NoError(t, err)
	require.Zero(t, n)
	n, err = a.Write(nil)
	require.NoError(t, err)
	require.Zero(t, n)
	require.NoError(t, b.Close())
	_, err = a.Write(nil)
	requireFails(t, err, syscall.EPIPE, false)
}

func TestInstantDeliveryDoesNotAllocate(t *testing.T) {
	a, b := connect(t, memnet.New())
	msg, got := make([]byte, 512), make([]byte, 512)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		_, _ = a.Write(msg)
		_, _ = b.Read(got)
	}))
}
