package closeconn_test

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/closeconn"
)

// locked is a connection whose methods exclude each other, and whose Close hangs.
type locked struct {
	net.Conn
	lock  chan struct{}
	stand chan struct{}
}

func (l locked) Close() error {
	l.lock <- struct{}{}
	defer func() { <-l.lock }()
	<-l.stand
	return nil
}

func (l locked) SetDeadline(time.Time) error {
	l.lock <- struct{}{}
	defer func() { <-l.lock }()
	return nil
}

// TestCloseReturnsThoughDeadlinesHang: "Close closes c and returns within a second".
func TestCloseReturnsThoughDeadlinesHang(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l := locked{lock: make(chan struct{}, 1), stand: make(chan struct{})}
		began := time.Now()
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			closeconn.Close(l)
		}()
		select {
		case <-closed:
		case <-time.After(time.Minute):
		}
		took := time.Since(began)
		close(l.stand)
		<-closed
		require.LessOrEqual(t, took, time.Second)
	})
}
