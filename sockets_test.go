package rafthttp_test

import (
	"context"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// What the transport does with sockets alone, in bubbles.

// simulateSockets is simulate over sockets.
func simulateSockets(t *testing.T, body func(t *testing.T, n *memnet.Network)) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) { body(t, memnet.New(memnet.WithSockets(64<<10, 64<<10))) })
}

// simulateBoth is simulate, and the same over sockets.
func simulateBoth(t *testing.T, body func(t *testing.T, n *memnet.Network)) {
	t.Helper()
	t.Run("plain", func(t *testing.T) { simulate(t, body) })
	t.Run("sockets", func(t *testing.T) { simulateSockets(t, body) })
}

// socketUses is what was asked of sockets.
type socketUses struct {
	buffers, files atomic.Int64

	mu       sync.Mutex
	timeouts []time.Duration
}

type seenSocket struct {
	*memnet.Socket
	uses *socketUses
}

func (s seenSocket) WriteBuffers(v *net.Buffers) (int64, error) {
	s.uses.buffers.Add(1)
	return s.Socket.WriteBuffers(v)
}

func (s seenSocket) SendFile(f *os.File, n int64) (int64, error) {
	s.uses.files.Add(1)
	return s.Socket.SendFile(f, n)
}

func (s seenSocket) SetUserTimeout(d time.Duration) error {
	s.uses.mu.Lock()
	s.uses.timeouts = append(s.uses.timeouts, d)
	s.uses.mu.Unlock()
	return s.Socket.SetUserTimeout(d)
}

// seen has a listener accept such sockets.
func (u *socketUses) seen(ln net.Listener) net.Listener {
	return wrappingListener{ln, func(c net.Conn) net.Conn { return seenSocket{c.(*memnet.Socket), u} }}
}

// dials has a member dial such sockets.
func (u *socketUses) dials(tr *rafthttp.Transport) {
	dial := tr.DialContext
	tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return seenSocket{c.(*memnet.Socket), u}, nil
	}
}

// TestLargeEntriesGoByWritev: not copied, and what goes out at once may take longer than the write timeout.
func TestLargeEntriesGoByWritev(t *testing.T) {
	const rate, entries, size = 100 << 10, 24, 64 << 10
	for name, listener := range map[string]func(net.Listener) net.Listener{
		"bare":           func(ln net.Listener) net.Listener { return ln },
		"with deadlines": func(ln net.Listener) net.Listener { return deadlineListener(ln, readTimeout, writeTimeout) },
	} {
		t.Run(name, func(t *testing.T) {
			simulateSockets(t, func(t *testing.T, n *memnet.Network) {
				uses := new(socketUses)
				ln, err := n.Host("m1").Listen("2380")
				require.NoError(t, err)
				a := startMemberOn(t, listener(uses.seen(ln)), 1, func(tr *rafthttp.Transport) {
					tr.DialContext, tr.WriteTimeout = n.Host("m1").DialContext, time.Second
				})
				b := startSimulated(t, n, 2, nil)
				connect(t, a, b)
				n.Link("m1", "m2").SetBandwidth(rate)
				for i := range uint64(entries) {
					a.Send([]*raftpb.Message{msgApp(2, 1, i, make([]byte, size))})
				}
				within(t, time.Minute, func() bool { return len(b.raft.received()) == entries })
				require.Zero(t, a.raft.unreachables(2))
				require.NotZero(t, uses.buffers.Load())
			})
		})
	}
}

// TestStreamEndsWhenNothingIsAcknowledged: what was written is in the send buffer, so no deadline finds out. The timeout of the
// system does, which is set on a connection of any listener.
func TestStreamEndsWhenNothingIsAcknowledged(t *testing.T) {
	for name, listener := range map[string]func(net.Listener) net.Listener{
		"bare":           func(ln net.Listener) net.Listener { return ln },
		"with deadlines": func(ln net.Listener) net.Listener { return deadlineListener(ln, readTimeout, writeTimeout) },
	} {
		t.Run(name, func(t *testing.T) {
			simulateSockets(t, func(t *testing.T, n *memnet.Network) {
				ln, err := n.Host("m1").Listen("2380")
				require.NoError(t, err)
				a := startMemberOn(t, listener(ln), 1, func(tr *rafthttp.Transport) { tr.DialContext = n.Host("m1").DialContext })
				a.AddPeer(2, silentHost(n, 2))
				c := dialStream(t, n.Host("m2").DialContext, a, "message", 2)
				read := make(chan struct{})
				go func() {
					defer close(read)
					_, _ = io.Copy(io.Discard, c)
				}()
				synctest.Wait()
				require.True(t, laneOf(a, 2, "message").Up)
				n.Link("m1", "m2").Cut()
				before := a.raft.unreachables(2)
				a.Send([]*raftpb.Message{heartbeat(2, 1, 1)})
				always(t, readTimeout-time.Second, func() bool { return laneOf(a, 2, "message").Up })
				within(t, 2*time.Second, func() bool { return !laneOf(a, 2, "message").Up })
				synctest.Wait()
				require.Greater(t, a.raft.unreachables(2), before)
				require.NoError(t, c.Close())
				<-read
			})
		})
	}
}
