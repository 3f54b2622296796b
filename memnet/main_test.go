package memnet_test

import (
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/seed-4d73690b/rafthttp/memnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// connect makes hosts a and b, a listener on b and a connection from a to b, and closes them when the test ends.
func connect(t *testing.T, n *memnet.Network) (a, b net.Conn) {
	t.Helper()
	ln, err := n.Host("b").Listen("80")
	require.NoError(t, err)
	a, err = n.Host("a").DialContext(t.Context(), "tcp", "b:80")
	require.NoError(t, err)
	b, err = ln.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _, _, _ = a.Close(), b.Close(), ln.Close() })
	return a, b
}

func write(t *testing.T, c net.Conn, s string) {
	t.Helper()
	n, err := c.Write([]byte(s))
	require.NoError(t, err)
	require.Equal(t, len(s), n)
}

func requireRead(t *testing.T, c net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	_, err := io.ReadFull(c, got)
	require.NoError(t, err)
	require.Equal(t, want, string(got))
}

// requireFails checks the error of a Read or Write: a *net.OpError with the connection's addresses around cause.
func requireFails(t *testing.T, err, cause error, timeout bool) {
	t.Helper()
	require.ErrorIs(t, err, cause)
	var op *net.OpError
	require.ErrorAs(t, err, &op)
	require.Equal(t, timeout, op.Timeout())
	require.Equal(t, "tcp", op.Net)
}

// fill writes until the window is full, and returns how many bytes that took.
func fill(t *testing.T, c net.Conn) int {
	t.Helper()
	require.NoError(t, c.SetWriteDeadline(time.Now().Add(time.Second)))
	n, err := c.Write(make([]byte, 1<<20))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, c.SetWriteDeadline(time.Time{}))
	return n
}
