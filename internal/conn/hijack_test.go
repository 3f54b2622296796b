package conn

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/internal/errs"
)

// scripted is a connection whose Reads end with these errors, one after another.
type scripted struct {
	net.Conn
	reads     []error
	deadlines int // that were removed
}

func (c *scripted) Read([]byte) (int, error) {
	err := c.reads[0]
	c.reads = c.reads[1:]
	return 0, err
}

func (c *scripted) SetReadDeadline(t time.Time) error {
	if t.IsZero() {
		c.deadlines++
	}
	return nil
}
func (c *scripted) SetWriteDeadline(time.Time) error { return nil }
func (c *scripted) Close() error                     { return nil }

// TestWatchTellsDeadlinesFromDeadConnections: a deadline of a wrapper says nothing of the client; a connection that the system has
// given up does, though its error is a timeout as well, and EOF comes next.
func TestWatchTellsDeadlinesFromDeadConnections(t *testing.T) {
	dead := &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ETIMEDOUT)}
	for _, c := range []struct {
		reads   []error
		want    error
		removed int
	}{
		{[]error{dead, io.EOF}, syscall.ETIMEDOUT, 0},
		{[]error{os.ErrDeadlineExceeded, os.ErrDeadlineExceeded, io.EOF}, errs.ErrPeerGone, 2},
		{[]error{nil, io.EOF}, errs.ErrPeerGone, 0},
		{[]error{syscall.ECONNRESET}, syscall.ECONNRESET, 0},
	} {
		on := &scripted{reads: c.reads}
		require.ErrorIs(t, NewHijackedStream(on, 1, func(f func()) { f() }).Watch(on), c.want)
		require.Equal(t, c.removed, on.deadlines)
	}
}

// noDeadlines is a connection that cannot set deadlines, and says so in its own words.
type noDeadlines struct{ net.Conn }

func (noDeadlines) SetDeadline(time.Time) error { return errors.New("deadline not supported") }

func TestHeadNeedsDeadlines(t *testing.T) {
	require.ErrorIs(t, writeHead(noDeadlines{}, nil, time.Second), ErrNoDeadlines)
	closed, other := net.Pipe()
	other.Close()
	closed.Close()
	err := writeHead(closed, []byte("head"), time.Second)
	require.Error(t, err)
	require.NotErrorIs(t, err, ErrNoDeadlines)
}
