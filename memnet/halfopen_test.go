package memnet_test

import (
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

func TestHalfOpenOneWay(t *testing.T) {
	within(t, func(t *testing.T, n *memnet.Network) {
		a, b := connect(t, n)
		l := n.Link("a", "b")
		l.SetDelay(time.Second)
		write(t, a, "under way")
		l.HalfOpen()
		l.Mend() // which is no help
		requireSilence(t, b)
		require.Equal(t, 64<<10-len("under way"), fill(t, a), "the writer is not told")

		require.Zero(t, travelTime(t, b, a, "the other way"))
		require.Equal(t, 64<<10-len("the other way"), fill(t, b), "but its acknowledgements are lost")
		_, err := io.ReadFull(a, make([]byte, 1000))
		require.NoError(t, err)
		require.Zero(t, fill(t, b))

		require.NoError(t, a.Close())
		requireSilence(t, b)

		ln, err := n.Host("b").Listen("81")
		require.NoError(t, err)
		defer ln.Close()
		a2, err := n.Host("a").DialContext(t.Context(), "tcp", "b:81")
		require.NoError(t, err)
		defer a2.Close()
		b2, err := ln.Accept()
		require.NoError(t, err)
		defer b2.Close()
		require.Equal(t, time.Second, travelTime(t, a2, b2, "a connection made later is whole"))
	})
}

// requireWaits checks that nothing is there to be read, nor an end.
func requireWaits(t *testing.T, c net.Conn) {
	t.Helper()
	require.NoError(t, c.SetReadDeadline(time.Now().Add(time.Hour)))
	_, err := c.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, c.SetReadDeadline(time.Time{}))
}

func TestPowerLoss(t *testing.T) {
	within(t, func(t *testing.T, n *memnet.Network) {
		a, b := connect(t, n)
		n.Link("a", "b").SetDelay(time.Second)
		n.Link("b", "a").SetDelay(2 * time.Second)
		write(t, b, "lost on its way")
		n.Host("b").PowerLoss()
		requireFails(t, b.SetDeadline(time.Time{}), net.ErrClosed, false)
		requireWaits(t, a)

		ln, err := n.Host("b").Listen("80")
		require.NoError(t, err, "the port is free")
		defer ln.Close()

		n.Link("a", "b").Cut()
		write(t, a, "into a black hole")
		requireWaits(t, a)
		n.Link("a", "b").Mend()
		start := time.Now()
		_, err = a.Read(make([]byte, 1))
		requireFails(t, err, syscall.ECONNRESET, false)
		require.Equal(t, 3*time.Second, time.Since(start), "there and back")
		require.NoError(t, a.Close())
		require.Zero(t, n.Sides())
	})
}

func TestPowerLossOfBothSides(t *testing.T) {
	within(t, func(t *testing.T, n *memnet.Network) {
		connect(t, n)
		n.Host("a").PowerLoss()
		n.Host("b").PowerLoss()
		require.Zero(t, n.Sides())
	})
}

// tinyReads returns the sizes of some reads.
func tinyReads(t *testing.T, seed uint64) (seen []int) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) {
		a, b := connect(t, memnet.New(memnet.WithTinyBuffers(), memnet.WithSeed(seed)))
		require.Less(t, fill(t, a), 64)
		for range 10 {
			k, err := b.Read(make([]byte, 100))
			require.NoError(t, err)
			require.LessOrEqual(t, k, 7)
			seen = append(seen, k)
			_, err = a.Write(make([]byte, k))
			require.NoError(t, err)
		}
	})
	return seen
}

func TestTinyBuffers(t *testing.T) {
	require.NotEqual(t, tinyReads(t, 1), tinyReads(t, 2), "not random")
	require.Equal(t, tinyReads(t, 1), tinyReads(t, 1), "not seeded")
	bubble.Test(t, func(t *testing.T) {
		post(t, serve(t, memnet.New(memnet.WithTinyBuffers()), true), "https://b:443/", 10_000)
	})
}
