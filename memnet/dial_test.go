package memnet_test

import (
	"context"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// bothKinds runs a test body on a network with sockets and on one without.
func bothKinds(t *testing.T, body func(t *testing.T, n *memnet.Network, sockets bool)) {
	t.Helper()
	t.Run("plain", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) { body(t, memnet.New(), false) })
	})
	t.Run("sockets", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) { body(t, memnet.New(memnet.WithSockets(0, 0)), true) })
	})
}

func TestDialBlock(t *testing.T) {
	bothKinds(t, func(t *testing.T, n *memnet.Network, sockets bool) {
		a, b := connect(t, n)
		other, err := n.Host("a").Listen("81")
		require.NoError(t, err)
		defer other.Close()
		n.Link("a", "b").SetDelay(time.Second)
		n.Link("b", "a").SetDelay(2 * time.Second)

		n.DialBlock("a", "b", memnet.DialRefused)
		n.Heal()
		n.Link("a", "b").Mend()
		require.Equal(t, 3*time.Second, took(func() {
			require.ErrorIs(t, dialFor(t, n.Host("a"), "b:80", time.Minute), syscall.ECONNREFUSED)
		}))
		require.NoError(t, dialFor(t, n.Host("b"), "a:81", time.Minute), "the other way")
		require.Equal(t, time.Second, travelTime(t, a, b, "a connection that is up"))

		n.DialBlock("a", "b", memnet.DialHangs)
		n.Heal()
		require.Equal(t, time.Minute, took(func() {
			require.ErrorIs(t, dialFor(t, n.Host("a"), "b:80", time.Minute), context.DeadlineExceeded)
		}))
		require.NoError(t, dialFor(t, n.Host("b"), "a:81", time.Minute), "the other way")
		require.Equal(t, 2*time.Second, travelTime(t, b, a, "a connection that is up"))

		goesOn := 6500 * time.Millisecond
		time.AfterFunc(5500*time.Millisecond, func() { n.DialBlock("a", "b", memnet.DialHangs) }) // again
		time.AfterFunc(goesOn, func() { n.DialBlock("a", "b", memnet.DialAllowed) })
		if sockets {
			goesOn = 7 * time.Second // the next SYN
		}
		require.Equal(t, goesOn+3*time.Second, took(func() {
			require.NoError(t, dialFor(t, n.Host("a"), "b:80", time.Minute), "goes on")
		}))
		time.AfterFunc(500*time.Millisecond, func() { n.DialBlock("a", "b", memnet.DialHangs) })
		time.AfterFunc(6500*time.Millisecond, func() { n.DialBlock("a", "b", memnet.DialRefused) })
		require.Equal(t, goesOn+3*time.Second, took(func() {
			require.ErrorIs(t, dialFor(t, n.Host("a"), "b:80", time.Minute), syscall.ECONNREFUSED, "set on the way")
		}))
	})
}

// TestSYNIsSentAgain: after what Linux waits for.
func TestSYNIsSentAgain(t *testing.T) {
	for name, tc := range map[string]struct {
		from, to string
		mended   time.Duration
		want     time.Duration // when a SYN goes through
	}{
		"at once":               {"a", "b", 0, 0},
		"after a second":        {"a", "b", 100 * time.Millisecond, time.Second},
		"the answer is lost":    {"b", "a", 100 * time.Millisecond, time.Second},
		"the fifth":             {"a", "b", 3500 * time.Millisecond, 4 * time.Second},
		"more and more rarely":  {"a", "b", 7100 * time.Millisecond, 11 * time.Second},
		"the last one":          {"a", "b", 66 * time.Second, 67 * time.Second},
		"too late":              {"a", "b", 68 * time.Second, 131 * time.Second},
		"the answer, too late":  {"b", "a", 68 * time.Second, 131 * time.Second},
		"the answer, last time": {"b", "a", 66 * time.Second, 67 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				n := memnet.New(memnet.WithSockets(0, 0))
				ln, err := n.Host("b").Listen("80")
				require.NoError(t, err)
				defer ln.Close()
				n.Link("a", "b").SetDelay(10 * time.Millisecond)
				if tc.mended > 0 {
					n.Link(tc.from, tc.to).Cut()
					time.AfterFunc(tc.mended, n.Heal)
				}
				start := time.Now()
				err = dialFor(t, n.Host("a"), "b:80", time.Hour)
				if tc.want == 131*time.Second {
					requireFails(t, err, syscall.ETIMEDOUT, true)
					require.Equal(t, tc.want, time.Since(start))
					return
				}
				require.NoError(t, err)
				require.Equal(t, tc.want+10*time.Millisecond, time.Since(start))
			})
		})
	}
}

func TestLostSYNs(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		n := memnet.New(memnet.WithSockets(0, 0))
		ln, err := n.Host("b").Listen("80")
		require.NoError(t, err)
		defer ln.Close()
		n.Link("b", "a").SetLoss(0.5)
		seen := map[time.Duration]int{}
		for range 100 {
			seen[took(func() { require.NoError(t, dialFor(t, n.Host("a"), "b:80", time.Hour)) })]++
		}
		require.InDelta(t, 50, seen[0], 20)
		require.InDelta(t, 25, seen[time.Second], 15)
	})
}

// TestSlowAnswerToASYN: one that takes longer than the next SYN counts all the same.
func TestSlowAnswerToASYN(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		n := memnet.New(memnet.WithSockets(0, 0))
		ln, err := n.Host("b").Listen("80")
		require.NoError(t, err)
		defer ln.Close()
		n.Link("a", "b").SetDelay(3500 * time.Millisecond)
		require.Equal(t, 3500*time.Millisecond, took(func() {
			require.NoError(t, dialFor(t, n.Host("a"), "b:80", time.Hour))
		}))
		require.ErrorIs(t, dialFor(t, n.Host("a"), "b:80", time.Second), context.DeadlineExceeded)
	})
}

// requireBacklog checks that a listener, from which nobody accepts, has room for two connections. It is full after that.
func requireBacklog(t *testing.T, ln net.Listener, dial func(patience time.Duration) (net.Conn, error)) {
	t.Helper()
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	for range 2 {
		c, err := dial(time.Minute)
		require.NoError(t, err)
		conns = append(conns, c)
	}
	_, err := dial(200 * time.Millisecond)
	var timeout net.Error
	require.ErrorAs(t, err, &timeout)
	require.True(t, timeout.Timeout(), "no answer, and no refusal: %v", err)

	type result struct {
		c   net.Conn
		err error
	}
	third := make(chan result, 1)
	began := make(chan struct{})
	go func() {
		close(began)
		c, err := dial(time.Minute)
		third <- result{c, err}
	}()
	<-began
	c, err := ln.Accept()
	require.NoError(t, err)
	conns = append(conns, c)
	r := <-third
	require.NoError(t, r.err, "there is room")
	conns = append(conns, r.c)
}

func TestFullBacklog(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		n := memnet.New(memnet.WithSockets(0, 0))
		ln, err := n.Host("b").Listen("80")
		require.NoError(t, err)
		defer ln.Close()
		ln.(*memnet.Listener).SetBacklog(1)
		dial := func(patience time.Duration) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			return n.Host("a").DialContext(ctx, "tcp", "b:80")
		}
		requireBacklog(t, ln, dial)

		require.Equal(t, 131*time.Second, took(func() {
			_, err := dial(time.Hour)
			requireFails(t, err, syscall.ETIMEDOUT, true)
		}))
	})
}
