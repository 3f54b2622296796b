package rafthttp_test

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
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
	"github.com/seed-4d73690b/rafthttp/snap"
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
		"with deadlines": func(ln net.Listener) net.Listener { return rafthttp.WithDeadlines(ln, readTimeout, writeTimeout) },
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

// countedFile is a file that bytes are moved to.
type countedFile struct {
	file  *os.File
	moves atomic.Int64
}

func (f *countedFile) Write(p []byte) (int, error) { return f.file.Write(p) }
func (f *countedFile) File() *os.File              { return f.file }

func (f *countedFile) ReadFrom(r io.Reader) (int64, error) {
	f.moves.Add(1)
	return f.file.ReadFrom(r)
}

// TestSnapshotIsMovedFromFileToFile: by sendfile and splice, or what stands for them, on a line that is fast, or so slow that
// deadlines end each of both many times.
func TestSnapshotIsMovedFromFileToFile(t *testing.T) {
	const size = 1 << 20
	data := randomBytes(size)
	for name, rate := range map[string]int{"fast": 0, "slow": 20 << 10} {
		for _, stock := range []bool{false, true} {
			if stock {
				name += ", plain"
			}
			t.Run(name, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "received")
				simulateSockets(t, func(t *testing.T, n *memnet.Network) {
					uses, ended := new(socketUses), make(chan error, 1)
					a := startSimulated(t, n, 1, func(tr *rafthttp.Transport) {
						tr.Observer = sentTo(ended)
						uses.dials(tr)
					})
					f, err := os.Create(path)
					require.NoError(t, err)
					defer f.Close()
					to := &countedFile{file: f}
					var s rafthttp.Snapshotter = saver(func(r io.Reader, _ uint64) (int64, error) { return r.(io.WriterTo).WriteTo(to) })
					if stock {
						s = plain{s}
					}
					b := startSimulated(t, n, 2, receives(s))
					a.AddPeer(2, []string{b.url})
					n.Link("m1", "m2").SetBandwidth(rate)
					a.SendSnapshot(snap.NewMessage(msgSnap(2, 1, 7), fileWith(t, []byte("before"), data), size))
					require.NoError(t, <-ended)
					require.NotZero(t, uses.files.Load(), "sendfile")
					require.NotZero(t, to.moves.Load(), "splice")
				})
				got, err := os.ReadFile(path)
				require.NoError(t, err)
				require.Equal(t, data, got)
			})
		}
	}
}

// TestStreamEndsWhenNothingIsAcknowledged: what was written is in the send buffer, so no deadline finds out. The timeout of the
// system does, which is set on a connection of any listener.
func TestStreamEndsWhenNothingIsAcknowledged(t *testing.T) {
	for name, listener := range map[string]func(net.Listener) net.Listener{
		"bare":           func(ln net.Listener) net.Listener { return ln },
		"with deadlines": func(ln net.Listener) net.Listener { return rafthttp.WithDeadlines(ln, readTimeout, writeTimeout) },
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

// TestSnapshotSocketIsAsPatient is TestSnapshotKernelIsAsPatient in a bubble.
func TestSnapshotSocketIsAsPatient(t *testing.T) {
	const size = 1 << 20
	for name, stock := range map[string]bool{"resumable": false, "plain": true} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			simulateSockets(t, func(t *testing.T, n *memnet.Network) {
				uses, ended := new(socketUses), make(chan error, 1)
				var s rafthttp.Snapshotter = &hanging{openIn(t, dir), size / 2, func() { time.Sleep(20 * time.Second) }}
				if stock {
					s = plain{s}
				}
				b := startSimulated(t, n, 2, receives(s))
				a := startSimulated(t, n, 1, func(tr *rafthttp.Transport) {
					tr.Observer = sentTo(ended)
					uses.dials(tr)
				})
				a.AddPeer(2, []string{b.url})
				a.SendSnapshot(snap.NewMessage(msgSnap(2, 1, 7), fileWith(t, nil, randomBytes(size)), size))
				require.NoError(t, <-ended)
				a.Stop()
				uses.mu.Lock()
				defer uses.mu.Unlock()
				require.Equal(t, []time.Duration{time.Hour, readTimeout}, uses.timeouts)
			})
		})
	}
}
