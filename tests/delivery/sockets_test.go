package delivery_test

import (
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// What the transport does with sockets alone, in bubbles.

// simulateBoth is simulate, and the same over sockets.
func simulateBoth(t *testing.T, body func(t *testing.T, n *memnet.Network)) {
	t.Helper()
	t.Run("plain", func(t *testing.T) { testmember.Simulate(t, body) })
	t.Run("sockets", func(t *testing.T) { testmember.SimulateSockets(t, body) })
}

// TestLargeEntriesGoByWritev: not copied, and what goes out at once may take longer than the write timeout.
func TestLargeEntriesGoByWritev(t *testing.T) {
	const rate, entries, size = 100 << 10, 24, 64 << 10
	for name, listener := range map[string]func(net.Listener) net.Listener{
		"bare": func(ln net.Listener) net.Listener { return ln },
		"with deadlines": func(ln net.Listener) net.Listener {
			return testmember.NewDeadlineListener(ln, testmember.ReadTimeout, testmember.WriteTimeout)
		},
	} {
		t.Run(name, func(t *testing.T) {
			testmember.SimulateSockets(t, func(t *testing.T, n *memnet.Network) {
				uses := new(testmember.SocketUses)
				ln, err := n.Host("m1").Listen("2380")
				require.NoError(t, err)
				a := testmember.StartOn(t, listener(uses.Seen(ln)), 1, func(tr *rafthttp.Transport) {
					tr.DialContext, tr.WriteTimeout = n.Host("m1").DialContext, time.Second
				})
				b := testmember.StartSimulated(t, n, 2, nil)
				testmember.Connect(t, a, b)
				n.Link("m1", "m2").SetBandwidth(rate)
				for i := range uint64(entries) {
					a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, i, make([]byte, size))})
				}
				testmember.Within(t, time.Minute, func() bool { return len(b.Recorder.Received()) == entries })
				require.Zero(t, a.Recorder.Unreachables(2))
				require.NotZero(t, uses.Buffers.Load())
			})
		})
	}
}

// TestStreamEndsWhenNothingIsAcknowledged: what was written is in the send buffer, so no deadline finds out. The timeout of the
// system does, which is set on a connection of any listener.
func TestStreamEndsWhenNothingIsAcknowledged(t *testing.T) {
	for name, listener := range map[string]func(net.Listener) net.Listener{
		"bare": func(ln net.Listener) net.Listener { return ln },
		"with deadlines": func(ln net.Listener) net.Listener {
			return testmember.NewDeadlineListener(ln, testmember.ReadTimeout, testmember.WriteTimeout)
		},
	} {
		t.Run(name, func(t *testing.T) {
			testmember.SimulateSockets(t, func(t *testing.T, n *memnet.Network) {
				ln, err := n.Host("m1").Listen("2380")
				require.NoError(t, err)
				a := testmember.StartOn(t, listener(ln), 1, func(tr *rafthttp.Transport) { tr.DialContext = n.Host("m1").DialContext })
				a.AddPeer(2, testmember.SilentHost(n, 2))
				c := testmember.DialStream(t, n.Host("m2").DialContext, a, "message", 2)
				read := make(chan struct{})
				go func() {
					defer close(read)
					_, _ = io.Copy(io.Discard, c)
				}()
				synctest.Wait()
				require.True(t, testmember.LaneOf(a, 2, "message").Up)
				n.Link("m1", "m2").Cut()
				before := a.Recorder.Unreachables(2)
				a.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1)})
				testmember.Always(t, testmember.ReadTimeout-time.Second, func() bool { return testmember.LaneOf(a, 2, "message").Up })
				testmember.Within(t, 2*time.Second, func() bool { return !testmember.LaneOf(a, 2, "message").Up })
				synctest.Wait()
				require.Greater(t, a.Recorder.Unreachables(2), before)
				require.NoError(t, c.Close())
				<-read
			})
		})
	}
}
