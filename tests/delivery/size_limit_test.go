package delivery_test

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// TestMessageOverOurOwnLimit: Send drops a message that is larger than MaxMessageBytes,
// for a reason of its own, and no stream is lost for it.
func TestMessageOverOurOwnLimit(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		const limit = 64 << 10
		core, logs := observer.New(zap.WarnLevel)
		a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) { tr.MaxMessageBytes, tr.Logger = limit, zap.New(core) })
		b := testmember.StartSimulated(t, n, 2, nil)
		testmember.Connect(t, a, b)
		a.AddPeer(3, testmember.SilentHost(n, 3)) // has no stream
		a.AddRemote(4, testmember.SilentHost(n, 4))
		for i := range uint64(10) {
			for to := uint64(2); to <= 4; to++ {
				a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, 3*i+to, nil), {Type: raftpb.MsgApp.Enum(), To: new(to), Context: make([]byte, limit)}, testmember.Heartbeat(2, 1, 0)})
			}
		}
		synctest.Wait()
		require.Len(t, b.Recorder.Received(), 60, "what is beside it")
		for to, lane := range map[uint64]string{2: "msgapp", 3: "pipeline"} {
			require.EqualValues(t, 10, testmember.LaneOf(a, 2, "msgapp").Drops.TooLarge)
			require.NotZero(t, a.Recorder.Unreachables(to), lane)
		}
		require.NotZero(t, a.Recorder.Unreachables(4))
		require.Contains(t, a.Status().Peers[0].LastError, rafthttp.ErrExceedSizeLimit.Error())
		require.LessOrEqual(t, logs.FilterMessageSnippet("dropping messages").Len(), 3, "one for each member")
		for _, s := range a.Status().Peers[0].Streams {
			require.EqualValues(t, 1, s.Connects)
		}
		require.Equal(t, rafthttp.DropTooLarge, rafthttp.DropReasonOf(rafthttp.ErrExceedSizeLimit))
	})
}

// TestMessageOverThePeersLimit: an append that only the receiver takes for too large costs
// the stream of appends, and no other; the sender's status says what happened.
func TestMessageOverThePeersLimit(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a := testmember.StartSimulated(t, n, 1, nil)
		b := testmember.StartSimulated(t, n, 2, func(tr *rafthttp.Transport) { tr.MaxMessageBytes = 64 << 10 })
		testmember.Connect(t, a, b)
		const beats = 150
		data := make([]byte, 200<<10)
		for i := range uint64(beats) {
			a.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, i), testmember.MsgApp(2, 1, i, data)})
			time.Sleep(100 * time.Millisecond)
		}
		require.Len(t, b.Recorder.Received(), beats)
		require.Contains(t, a.Status().Peers[0].LastError, "exceed")
		for _, s := range a.Status().Peers[0].Streams {
			if s.Name == "message" {
				require.EqualValues(t, 1, s.Connects, s.Direction)
			}
		}
	})
}

// TestMessageOverTheLimitOfASlowPeer is the same for a peer whose Process is slow: it reads the large append, and cuts the stream,
// long after that was written.
func TestMessageOverTheLimitOfASlowPeer(t *testing.T) {
	for name, slow := range map[string]time.Duration{"quick": 0, "slow": 2 * time.Second} {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				a := testmember.StartSimulated(t, n, 1, nil)
				b := testmember.StartSimulated(t, n, 2, func(tr *rafthttp.Transport) {
					tr.MaxMessageBytes, tr.ReceiveQueueMessages = 64<<10, 2
					r := tr.Raft.(*testmember.Recorder)
					r.OnProcess = func(_ context.Context, m *raftpb.Message) error {
						if m.GetType() == raftpb.MsgApp {
							time.Sleep(slow)
						}
						r.Keep(m)
						return nil
					}
				})
				testmember.Connect(t, a, b)
				data := make([]byte, 200<<10)
				for round := range uint64(5) {
					testmember.Within(t, 30*time.Second, func() bool { return testmember.LaneOf(a, 2, "msgapp").Up })
					for i := range uint64(5) {
						a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, 10*round+i, []byte("small"))})
						time.Sleep(10 * time.Millisecond)
					}
					began := time.Now()
					a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, 10*round+5, data)})
					testmember.Within(t, 30*time.Second, func() bool { return !testmember.LaneOf(a, 2, "msgapp").Up })
					require.Equal(t, slow > 0, time.Since(began) > testmember.ReadTimeout)
					a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, 10*round+5, data)}) // as raft does, which was told
					time.Sleep(30 * time.Second)
				}
				require.Contains(t, a.Status().Peers[0].LastError, "exceed")
				for _, s := range a.Status().Peers[0].Streams {
					if s.Name == "message" {
						require.EqualValues(t, 1, s.Connects, s.Direction)
					}
				}
			})
		})
	}
}

// TestAppendsFallBackToTheMessageStream: an append whose stream is lost goes by post until the peer has taken one as large by post,
// and then over the message stream. A stream that was given nothing was not cut for a large append.
func TestAppendsFallBackToTheMessageStream(t *testing.T) {
	const small, large = 1000, 2000
	for answer, taken := range map[int]bool{http.StatusNoContent: true, http.StatusBadRequest: false} {
		t.Run(http.StatusText(answer), func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				a := testmember.StartSimulated(t, n, 1, nil)
				posted := serveStatus(t, n, 2, "post", answer, nil)
				a.AddPeer(2, []string{testmember.URLOf(2)})
				dial := n.Host("m2").DialContext
				testmember.ReadArrivals(t, testmember.DialStream(t, dial, a, "message", 2))
				next, messages := uint64(0), uint64(0)
				send := func(size int) {
					a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, next, make([]byte, size))})
					synctest.Wait()
					next += 2
				}
				byMessage := func(size int, want bool) {
					t.Helper()
					send(size)
					if want {
						messages++
					}
					require.Equal(t, messages, testmember.LaneOf(a, 2, "message").Messages)
					require.Len(t, posted, map[bool]int{true: 0, false: 1}[want])
					for len(posted) > 0 {
						<-posted
					}
				}
				lose := func(given int) {
					c := testmember.DialStream(t, dial, a, "msgapp", 2)
					testmember.WaitStreams(t, a, 2)
					for range given {
						send(large)
					}
					c.Close()
					testmember.Within(t, time.Second, func() bool { return !testmember.LaneOf(a, 2, "msgapp").Up })
				}
				lose(0)
				byMessage(large, true)
				for range 2 { // the second connection may be to a peer with another limit
					lose(1)
					byMessage(small, false)
					byMessage(small, taken)
					byMessage(large, false)
					byMessage(large, taken)
					byMessage(small, taken)
				}
				lose(0) // soon after the one that was cut
				byMessage(large, false)
			})
		})
	}
}

// TestMemoryLimitIsAReason: what is dropped for the bound of all queues together says so.
func TestMemoryLimitIsAReason(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) { tr.MaxQueuedBytes = 1 << 20 })
		a.AddPeer(2, testmember.SilentHost(n, 2))
		n.Link("m1", "m2").Cut()
		for i := range uint64(20) {
			a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, i, make([]byte, 100<<10))})
		}
		d := testmember.LaneOf(a, 2, "pipeline").Drops
		require.NotZero(t, d.MemoryLimit)
		require.Zero(t, d.QueueFull)
		require.ErrorIs(t, rafthttp.ErrMemoryLimit, rafthttp.ErrQueueFull)
		require.Equal(t, rafthttp.DropMemoryLimit, rafthttp.DropReasonOf(rafthttp.ErrMemoryLimit))
	})
}
