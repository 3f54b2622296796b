package memnet_test

import (
	"context"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// travelTime writes s at one side and returns how long it takes until all of it is read at the other.
func travelTime(t *testing.T, from, to net.Conn, s string) time.Duration {
	t.Helper()
	start := time.Now()
	write(t, from, s)
	requireRead(t, to, s)
	return time.Since(start)
}

// requireSilence checks that nothing arrives within an hour.
func requireSilence(t *testing.T, c net.Conn) {
	t.Helper()
	require.NoError(t, c.SetReadDeadline(time.Now().Add(time.Hour)))
	n, err := c.Read(make([]byte, 1))
	require.Zero(t, n)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, c.SetReadDeadline(time.Time{}))
}

func TestDelayIsDirected(t *testing.T) {
	within(t, func(t *testing.T, n *memnet.Network) {
		a, b := connect(t, n)
		n.Link("a", "b").SetDelay(3 * time.Second)
		require.Equal(t, 3*time.Second, travelTime(t, a, b, "there"))
		require.Zero(t, travelTime(t, b, a, "back"))
		n.Link("a", "b").SetDelay(0)
		require.Zero(t, travelTime(t, a, b, "there"))
	})
}

func TestShorterDelayDoesNotOvertake(t *testing.T) {
	within(t, func(t *testing.T, n *memnet.Network) {
		a, b := connect(t, n)
		start := time.Now()
		n.Link("a", "b").SetDelay(3 * time.Second)
		write(t, a, "first ")
		n.Link("a", "b").SetDelay(0)
		write(t, a, "second ")
		n.Link("a", "b").SetDelay(4 * time.Second)
		write(t, a, "third")
		requireRead(t, b, "first second ")
		require.Equal(t, 3*time.Second, time.Since(start))
		requireRead(t, b, "third")
		require.Equal(t, 4*time.Second, time.Since(start))
	})
}

func TestJitter(t *testing.T) {
	within(t, func(t *testing.T, n *memnet.Network) {
		a, b := connect(t, n)
		n.Link("a", "b").SetDelay(time.Second)
		n.Link("a", "b").SetJitter(time.Second)
		seen := make(map[time.Duration]bool)
		for range 50 {
			d := travelTime(t, a, b, "x")
			require.GreaterOrEqual(t, d, time.Second)
			require.Less(t, d, 2*time.Second)
			seen[d] = true
		}
		require.Greater(t, len(seen), 40)
	})
}

func TestLossCostsTimeOnly(t *testing.T) {
	within(t, func(t *testing.T, n *memnet.Network) {
		a, b := connect(t, n)
		n.Link("a", "b").SetLoss(0.5)
		seen := make(map[time.Duration]int)
		for range 200 {
			seen[travelTime(t, a, b, "x")]++
		}
		require.InDelta(t, 100, seen[0], 30, "not lost")
		require.InDelta(t, 50, seen[200*time.Millisecond], 25, "lost once")
		require.InDelta(t, 25, seen[600*time.Millisecond], 20, "lost twice")

		n.Link("a", "b").SetLoss(1)
		require.Equal(t, 127*200*time.Millisecond, travelTime(t, a, b, "x"), "the 8th arrives")
	})
}

func TestSeedDecidesWhatIsRandom(t *testing.T) {
	run := func(t *testing.T, seed uint64) (times []time.Duration) {
		bubble.Test(t, func(t *testing.T) {
			n := memnet.New(memnet.WithSeed(seed))
			a, b := connect(t, n)
			n.Link("a", "b").SetJitter(time.Second)
			n.Link("a", "b").SetLoss(0.3)
			for range 20 {
				n.Link("b", "a").SetJitter(time.Duration(seed+1) * time.Second)
				travelTime(t, b, a, "other links do not matter")
				times = append(times, travelTime(t, a, b, "x"))
			}
		})
		return times
	}
	require.Equal(t, run(t, 1), run(t, 1))
	require.NotEqual(t, run(t, 1), run(t, 2))
}

func TestBandwidth(t *testing.T) {
	within(t, func(t *testing.T, n *memnet.Network) {
		a, b := connect(t, n)
		n.Link("a", "b").SetBandwidth(1000)
		require.Equal(t, 2*time.Second, travelTime(t, a, b, strings.Repeat("x", 2000)))
		require.Zero(t, travelTime(t, b, a, strings.Repeat("x", 2000)), "the other direction")

		n.Link("a", "b").SetDelay(time.Second)
		require.Equal(t, 3*time.Second, travelTime(t, a, b, strings.Repeat("x", 2000)))
		require.Equal(t, 201*time.Second, travelTimeOfMuch(t, a, b, 200_000), "more than a window")
	})
}

// travelTimeOfMuch is travelTime for more bytes than the window takes at once.
func travelTimeOfMuch(t *testing.T, from, to net.Conn, size int) time.Duration {
	t.Helper()
	start := time.Now()
	go func() { _, _ = from.Write(make([]byte, size)) }()
	_, err := io.ReadFull(to, make([]byte, size))
	require.NoError(t, err)
	return time.Since(start)
}

func TestBandwidthIsShared(t *testing.T) {
	within(t, func(t *testing.T, n *memnet.Network) {
		a, b := connect(t, n)
		n.Link("a", "b").SetBandwidth(1000)
		ln, err := n.Host("b").Listen("81")
		require.NoError(t, err)
		defer ln.Close()
		c, err := n.Host("a").DialContext(t.Context(), "tcp", "b:81")
		require.NoError(t, err)
		defer c.Close()
		d, err := ln.Accept()
		require.NoError(t, err)
		defer d.Close()

		start := time.Now()
		write(t, a, strings.Repeat("x", 1000))
		write(t, c, strings.Repeat("x", 1000))
		requireRead(t, b, strings.Repeat("x", 1000))
		require.Equal(t, time.Second, time.Since(start))
		requireRead(t, d, strings.Repeat("x", 1000))
		require.Equal(t, 2*time.Second, time.Since(start))
	})
}

func TestCutHoldsBytesBack(t *testing.T) {
	within(t, func(t *testing.T, n *memnet.Network) {
		a, b := connect(t, n)
		l := n.Link("a", "b")
		l.SetDelay(2 * time.Second)
		write(t, a, "under way, ")
		time.Sleep(time.Second)
		l.Cut()
		l.Cut()
		write(t, a, "held back, ")
		require.Equal(t, 64<<10-len("under way, held back, "), fill(t, a))
		requireSilence(t, b)
		require.Zero(t, travelTime(t, b, a, "the other way"))

		start := time.Now()
		l.Mend()
		l.Mend()
		requireRead(t, b, "under way, held back, ")
		require.Equal(t, 2*time.Second, time.Since(start))
		require.Equal(t, 2*time.Second, travelTimeAfterDrain(t, a, b), "as before")
	})
}

func TestCutForgetsWhatTheBandwidthDelayed(t *testing.T) {
	within(t, func(t *testing.T, n *memnet.Network) {
		a, b := connect(t, n)
		l := n.Link("a", "b")
		l.SetBandwidth(1000)
		write(t, a, strings.Repeat("x", 30_000))
		l.Cut()
		l.Mend()
		start := time.Now()
		requireRead(t, b, strings.Repeat("x", 30_000))
		require.Equal(t, 30*time.Second, time.Since(start))
	})
}

// travelTimeAfterDrain reads what fill left, and then measures.
func travelTimeAfterDrain(t *testing.T, from, to net.Conn) time.Duration {
	t.Helper()
	_, err := io.ReadFull(to, make([]byte, 64<<10-len("under way, held back, ")))
	require.NoError(t, err)
	return travelTime(t, from, to, "x")
}

func TestCutHoldsAcknowledgementsBack(t *testing.T) {
	within(t, func(t *testing.T, n *memnet.Network) {
		a, b := connect(t, n)
		back := n.Link("b", "a")
		back.Cut()
		require.Zero(t, travelTime(t, a, b, "one way works"))
		require.Equal(t, 64<<10-len("one way works"), fill(t, a))
		_, err := io.ReadFull(b, make([]byte, 64<<10-len("one way works")))
		require.NoError(t, err)
		require.Zero(t, fill(t, a), "no news of what was read")
		back.Mend()
		require.Equal(t, 64<<10, fill(t, a))
	})
}

func TestCutHoldsCloseBack(t *testing.T) {
	within(t, func(t *testing.T, n *memnet.Network) {
		a, b := connect(t, n)
		n.Link("a", "b").Cut()
		require.NoError(t, a.Close())
		requireSilence(t, b)
		write(t, b, "no error")
		n.Link("a", "b").Mend()
		_, err := b.Read(make([]byte, 1))
		require.Equal(t, io.EOF, err)
	})
}

func TestPartition(t *testing.T) {
	within(t, func(t *testing.T, n *memnet.Network) {
		hosts := []string{"a", "b", "c", "d"}
		listeners := make(map[string]net.Listener)
		for _, h := range hosts {
			ln, err := n.Host(h).Listen("1")
			require.NoError(t, err)
			defer ln.Close()
			listeners[h] = ln
		}
		reachable := func(from, to string) bool {
			err := dialFor(t, n.Host(from), to+":1", time.Second)
			if err != nil {
				require.ErrorIs(t, err, context.DeadlineExceeded)
			}
			return err == nil
		}
		n.Partition([]string{"a"}, []string{"b", "c"})
		for _, from := range hosts {
			for _, to := range hosts {
				cut := (from == "a" && (to == "b" || to == "c")) || (to == "a" && (from == "b" || from == "c"))
				require.Equal(t, !cut, reachable(from, to), "%s to %s", from, to)
			}
		}
		n.Link("a", "d").Cut()
		n.Heal()
		for _, from := range hosts {
			for _, to := range hosts {
				require.True(t, reachable(from, to), "%s to %s", from, to)
			}
		}
	})
}

func TestReset(t *testing.T) {
	within(t, func(t *testing.T, n *memnet.Network) {
		a, b := connect(t, n)
		ln, err := n.Host("c").Listen("80")
		require.NoError(t, err)
		defer ln.Close()
		other, err := n.Host("a").DialContext(t.Context(), "tcp", "c:80")
		require.NoError(t, err)
		defer other.Close()

		n.Link("a", "b").Cut()
		write(t, b, "unread")
		results := blocked(t, b)
		n.Reset("b", "a")
		for _, err := range results() {
			requireFails(t, err, syscall.ECONNRESET, false)
		}
		_, err = a.Read(make([]byte, 1))
		requireFails(t, err, syscall.ECONNRESET, false)
		_, err = a.Write(make([]byte, 1))
		requireFails(t, err, syscall.ECONNRESET, false)
		require.NoError(t, a.Close())
		_, err = a.Read(make([]byte, 1))
		requireFails(t, err, net.ErrClosed, false)
		write(t, other, "another pair is left alone")
	})
}

func TestBandwidthOfWhatIsUnderWay(t *testing.T) {
	within(t, func(t *testing.T, n *memnet.Network) {
		a, b := connect(t, n)
		l := n.Link("a", "b")
		l.SetBandwidth(1)
		start := time.Now()
		write(t, a, strings.Repeat("x", 1000))
		write(t, a, strings.Repeat("y", 1000))
		time.Sleep(time.Second)
		l.SetBandwidth(1000)
		requireRead(t, b, strings.Repeat("x", 1000))
		require.Equal(t, 2*time.Second, time.Since(start), "no backlog of the old pace")
		l.SetBandwidth(0)
		requireRead(t, b, strings.Repeat("y", 1000))
		require.Equal(t, 2*time.Second, time.Since(start))
	})
}
