package network_test

import (
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/chaos/internal/network"
)

const insideVariable = "CHAOS_TEST_INSIDE"

// TestSwitch runs in a network namespace of its own: it starts itself again there.
func TestSwitch(t *testing.T) {
	if os.Getenv(insideVariable) != "" {
		testSwitch(t)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestSwitch$", "-test.v")
	cmd.Env = append(os.Environ(), insideVariable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Skipf("no network namespaces: %v", err)
	}
	require.NoError(t, err, string(out))

}

func testSwitch(t *testing.T) {
	s, err := network.NewSwitch(2, 1)
	if err != nil {
		t.Skipf("no network namespaces with TUN devices: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	listen := func(member int) (ln net.Listener) {
		s.Do(member, func() { ln, err = net.Listen("tcp", s.Host(member)+":1000") })
		require.NoError(t, err)
		t.Cleanup(func() { _ = ln.Close() })
		return ln
	}
	a, b := listen(0), listen(1)
	dial := func(from, to int, patience time.Duration) (conn net.Conn, err error) {
		s.Do(from, func() { conn, err = net.DialTimeout("tcp", s.Host(to)+":1000", patience) })
		return conn, err
	}

	// From the process itself.
	outside, err := net.DialTimeout("tcp", a.Addr().String(), long)
	require.NoError(t, err)
	require.NoError(t, outside.Close())

	// From one member to another, a good amount, over a link that loses some of it and is late.
	conn, err := dial(0, 1, long)
	require.NoError(t, err)
	accepted, err := b.Accept()
	require.NoError(t, err)
	mend := s.Link(0, 1).Add(network.Conditions{Loss: 0.05, Delay: time.Millisecond})
	const amount = 1 << 20
	sent := make(chan error, 1)
	go func() {
		_, err := conn.Write(make([]byte, amount))
		sent <- errors.Join(err, conn.(*net.TCPConn).CloseWrite())
	}()
	n, err := io.Copy(io.Discard, accepted)
	require.NoError(t, errors.Join(err, <-sent))
	require.Equal(t, int64(amount), n)
	counts := s.Count()
	require.NotZero(t, counts.Lost)
	require.Greater(t, counts.Bytes, uint64(amount))
	mend()

	// One way alone: what 0 sends does not arrive, what 1 sends does.
	require.NoError(t, errors.Join(conn.Close(), accepted.Close()))
	if conn, err = dial(0, 1, long); err == nil {
		accepted, err = b.Accept()
	}
	require.NoError(t, err)
	mend = s.Link(0, 1).Add(network.Conditions{Cut: true})
	require.NoError(t, passes(accepted, conn, long))
	require.ErrorIs(t, passes(conn, accepted, short), os.ErrDeadlineExceeded)
	_, err = dial(0, 1, short)
	require.Error(t, err)
	mend()
	_ = accepted.SetReadDeadline(time.Now().Add(long))
	_, err = io.ReadFull(accepted, make([]byte, 5)) // TCP has sent it again
	require.NoError(t, err)
}
