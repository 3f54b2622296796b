package closeconn_test

import (
	"crypto/tls"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/closeconn"
)

// stuck is a connection whose writes wait for a deadline, if it has any.
type stuck struct {
	net.Conn // nil
	closed   chan struct{}
	deadline chan time.Time
}

func newStuck() *stuck {
	return &stuck{closed: make(chan struct{}), deadline: make(chan time.Time, 1)}
}

func (s *stuck) SetDeadline(t time.Time) error {
	select {
	case <-s.deadline:
	default:
	}
	s.deadline <- t
	return nil
}

// Close is what that of TLS does: it gives itself 5 s, for a write that the other end does not read.
func (s *stuck) Close() error {
	_ = s.SetDeadline(time.Now().Add(5 * time.Second))
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		select {
		case at := <-s.deadline:
			end = at
		case <-time.After(time.Until(end)):
		}
	}
	close(s.closed)
	return nil
}

// deaf is a connection whose Close knows no deadline.
type deaf struct {
	net.Conn
	stand chan struct{}
}

func (d deaf) Close() error              { <-d.stand; return nil }
func (deaf) SetDeadline(time.Time) error { return nil }

func TestStuckConnIsClosedSoon(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newStuck()
		began := time.Now()
		closeconn.Close(s)
		require.LessOrEqual(t, time.Since(began), 200*time.Millisecond)
		<-s.closed
		require.LessOrEqual(t, time.Since(began), 200*time.Millisecond)
	})
}

func TestCloseReturnsAnyhow(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := deaf{stand: make(chan struct{})}
		defer close(d.stand)
		began := time.Now()
		closeconn.Close(d)
		require.LessOrEqual(t, time.Since(began), time.Second)
	})
}

// TestTLSIsClosedBelow: without a word to the other end.
func TestTLSIsClosedBelow(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newStuck()
		c := tls.Client(s, &tls.Config{})
		require.False(t, closeconn.IsQuick(c))
		closeconn.Close(c)
		<-s.closed
	})
	a, b := net.Pipe()
	defer b.Close()
	require.False(t, closeconn.IsQuick(a))
	require.True(t, closeconn.IsQuick(tls.Client(&net.TCPConn{}, &tls.Config{})))
}
