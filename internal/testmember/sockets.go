package testmember

import (
	"context"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/socket"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// SimulateSockets is Simulate over sockets.
func SimulateSockets(t *testing.T, body func(t *testing.T, n *memnet.Network)) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) { body(t, memnet.New(memnet.WithSockets(64<<10, 64<<10))) })
}

// SocketUses are the calls of what only sockets can do.
type SocketUses struct {
	Buffers, Files atomic.Int64

	Mu       sync.Mutex
	Timeouts []time.Duration
}

// Seen has a listener accept counted sockets.
func (u *SocketUses) Seen(ln net.Listener) net.Listener {
	return WrappingListener{ln, func(c net.Conn) net.Conn { return seenSocket{c.(countable), u} }}
}

// Dials has a member dial counted sockets.
func (u *SocketUses) Dials(tr *rafthttp.Transport) {
	dial := tr.DialContext
	tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return seenSocket{c.(countable), u}, nil
	}
}

// countable has all methods of a memnet.Socket.
type countable interface {
	net.Conn
	socket.BuffersWriter
	socket.FileSender
	socket.UserTimeouter
	CloseWrite() error
	SetLinger(seconds int) error
}

// seenSocket is a socket that counts.
type seenSocket struct {
	countable
	uses *SocketUses
}

func (s seenSocket) WriteBuffers(v *net.Buffers) (int64, error) {
	s.uses.Buffers.Add(1)
	return s.countable.WriteBuffers(v)
}

func (s seenSocket) SendFile(f *os.File, n int64) (int64, error) {
	s.uses.Files.Add(1)
	return s.countable.SendFile(f, n)
}

func (s seenSocket) SetUserTimeout(d time.Duration) error {
	s.uses.Mu.Lock()
	s.uses.Timeouts = append(s.uses.Timeouts, d)
	s.uses.Mu.Unlock()
	return s.countable.SetUserTimeout(d)
}
