package network_test

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/chaos/internal/network"
)

// pipe is a connection through a proxy: its end at the dialler, and that at the target.
func pipe(t *testing.T, p *network.Proxies, listeners []net.Listener, from, to int) (dialled, accepted net.Conn) {
	t.Helper()
	dialled, err := net.Dial("tcp", p.Address(from, to))
	require.NoError(t, err)
	accepted, err = listeners[to].Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = dialled.Close(), accepted.Close() })
	return dialled, accepted
}

// passes writes some bytes to one end, and waits until they come out at the other.
func passes(in, out net.Conn, patience time.Duration) error {
	_, err := in.Write([]byte("hello"))
	_ = out.SetReadDeadline(time.Now().Add(patience))
	_, rerr := io.ReadFull(out, make([]byte, 5))
	return errors.Join(err, rerr)
}

const (
	long  = 20 * time.Second
	short = 200 * time.Millisecond
)

func TestProxiesCutOneWay(t *testing.T) {
	var listeners []net.Listener
	var targets []string
	for range 3 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		t.Cleanup(func() { _ = ln.Close() })
		listeners, targets = append(listeners, ln), append(targets, ln.Addr().String())
	}
	p, err := network.NewProxies(targets, 1)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	there0, there1 := pipe(t, p, listeners, 0, 1) // 0 has dialled
	back1, back0 := pipe(t, p, listeners, 1, 0)   // 1 has dialled
	other2, other1 := pipe(t, p, listeners, 2, 1)

	p.Link(0, 1).Add(network.Conditions{Cut: true})
	require.ErrorIs(t, passes(there0, there1, short), os.ErrDeadlineExceeded)
	require.ErrorIs(t, passes(back0, back1, short), os.ErrDeadlineExceeded)
	require.NoError(t, passes(there1, there0, long))
	require.NoError(t, passes(back1, back0, long))
	require.NoError(t, passes(other2, other1, long))
	require.NoError(t, passes(other1, other2, long))
}
