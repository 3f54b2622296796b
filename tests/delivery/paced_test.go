package delivery_test

import (
	"context"
	"errors"
	"net"
	"net/url"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/internal/testtls"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// deadlines counts how often deadlines are set.
type deadlines struct{ read, written atomic.Int64 }

type countedConn struct {
	net.Conn
	*deadlines
}

func (c countedConn) SetReadDeadline(t time.Time) error {
	c.read.Add(1)
	return c.Conn.SetReadDeadline(t)
}

func (c countedConn) SetWriteDeadline(t time.Time) error {
	c.written.Add(1)
	return c.Conn.SetWriteDeadline(t)
}

// SyscallConn says that it is a socket, whose writes can be continued after a deadline.
func (c countedConn) SyscallConn() (syscall.RawConn, error) { return nil, errors.ErrUnsupported }

type countedListener struct {
	net.Listener
	*deadlines
}

func (l countedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return countedConn{c, l.deadlines}, nil
}

// TestDeadlinesAreSetOnceInATimeout sends many messages, one by one, for several timeouts. However many there were, a
// stream that falls silent ends when its timeout is over, and not before.
func TestDeadlinesAreSetOnceInATimeout(t *testing.T) {
	const timeouts = 6
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		var reader, writer deadlines
		ln, err := n.Host("m1").Listen("2380")
		require.NoError(t, err)
		a := testmember.StartOn(t, countedListener{ln, &writer}, 1, func(tr *rafthttp.Transport) { tr.DialContext = n.Host("m1").DialContext })
		b := testmember.StartSimulated(t, n, 2, func(tr *rafthttp.Transport) {
			dial := tr.DialContext
			tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				c, err := dial(ctx, network, addr)
				return countedConn{c, &reader}, err
			}
		})
		testmember.Connect(t, a, b)
		time.Sleep(time.Second)
		read, written := reader.read.Load(), writer.written.Load()
		const every = 10 * time.Millisecond
		sent := 0
		for start := time.Now(); time.Since(start) < timeouts*testmember.ReadTimeout; time.Sleep(every) {
			a.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1), testmember.MsgApp(2, 1, uint64(sent), nil)})
			sent += 2
		}
		synctest.Wait()
		require.Len(t, b.Recorder.Received(), sent)
		require.Zero(t, a.Recorder.Unreachables(2))
		const streams, other = 2, 2 // a probe, say
		require.LessOrEqual(t, reader.read.Load()-read, int64((streams+other)*(timeouts+1)))
		require.LessOrEqual(t, writer.written.Load()-written, int64((streams+other)*(timeouts+1)))

		n.Link("m1", "m2").Cut()
		last := time.Now().Add(-every)
		testmember.Always(t, testmember.ReadTimeout-2*every, func() bool { return b.ActivePeers() == 1 })
		testmember.Within(t, time.Until(last.Add(testmember.ReadTimeout+time.Millisecond)), func() bool { return b.ActivePeers() == 0 })
	})
}

// TestWriteDeadlineIsThatOfTheWrite has a peer stop to read at any time after the deadline was set last: the stream ends
// once nothing has moved for the timeout.
func TestWriteDeadlineIsThatOfTheWrite(t *testing.T) {
	for _, quiet := range []time.Duration{0, testmember.WriteTimeout / 3, testmember.WriteTimeout - time.Millisecond, testmember.WriteTimeout, 3 * testmember.WriteTimeout / 2} {
		t.Run(quiet.String(), func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				ln, err := n.Host("m1").Listen("2380")
				require.NoError(t, err)
				lost := &drops{}
				a := testmember.StartOn(t, countedListener{ln, new(deadlines)}, 1, func(tr *rafthttp.Transport) {
					tr.DialContext = n.Host("m1").DialContext
					lost.observe(tr)
				})
				a.AddPeer(2, testmember.SilentHost(n, 2))
				c := testmember.DialStream(t, n.Host("m2").DialContext, a, "message", 2)
				read := make(chan struct{})
				go func() {
					defer close(read)
					_, _ = c.ReadMessages("message", 2, 1) // also heartbeats of the link
				}()
				synctest.Wait()
				for range 3 { // across a deadline
					a.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1)})
					time.Sleep(testmember.WriteTimeout / 2)
				}
				time.Sleep(quiet)
				require.Zero(t, a.Recorder.Unreachables(2))
				n.Link("m1", "m2").Cut()
				for range 100 { // far more than the window
					a.Send([]*raftpb.Message{{Type: raftpb.MsgHeartbeat.Enum(), To: new(uint64(2)), From: new(uint64(1)), Context: make([]byte, 10<<10)}})
				}
				start := time.Now()
				testmember.Always(t, testmember.WriteTimeout-10*time.Millisecond, func() bool { return a.Recorder.Unreachables(2) == 0 })
				// What went into the window was progress.
				testmember.Within(t, time.Until(start.Add(2*testmember.WriteTimeout+time.Millisecond)), func() bool { return a.Recorder.Unreachables(2) > 0 })
				synctest.Wait()
				require.NotZero(t, lost.n.Load())
				n.Heal()
				c.Close()
				<-read
			})
		})
	}
}

// opaqueListener hides its connections in another type, as one that multiplexes, limits
// or counts them does.
type opaqueListener struct{ net.Listener }

type opaqueConn struct{ net.Conn }

func (l opaqueListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return opaqueConn{c}, nil
}

// TestStreamBehindAWrapperOutlivesItsDeadlines: what a listener hands out may be TLS,
// which cannot be written to after a deadline, even if it does not look like that.
func TestStreamBehindAWrapperOutlivesItsDeadlines(t *testing.T) {
	const timeout = 400 * time.Millisecond
	ca := testtls.NewAuthority(t)
	start := func(id types.ID) *testmember.Member {
		info := ca.Member(t, id)
		ln, err := rafthttp.NewListener(url.URL{Scheme: "https", Host: "127.0.0.1:0"}, &info)
		require.NoError(t, err)
		return testmember.StartAt(t, opaqueListener{ln}, "https://"+ln.Addr().String(), id, func(tr *rafthttp.Transport) {
			tr.TLSInfo, tr.ReadTimeout, tr.WriteTimeout = info, 10*timeout, timeout
		})
	}
	a, b := start(1), start(2)
	testmember.Connect(t, a, b)
	unreachables := a.Recorder.Unreachables(2)
	const n = 12
	for range n { // three timeouts
		a.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1)})
		<-time.After(timeout / 4)
	}
	testmember.Eventually(t, func() bool { return len(b.Recorder.Received()) == n })
	require.Equal(t, unreachables, a.Recorder.Unreachables(2))
}
