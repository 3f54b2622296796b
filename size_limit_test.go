package rafthttp_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// TestMessageOverOurOwnLimit: Send drops a message that is larger than MaxMessageBytes,
// for a reason of its own, and no stream is lost for it.
func TestMessageOverOurOwnLimit(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		const limit = 64 << 10
		core, logs := observer.New(zap.WarnLevel)
		a := startSimulated(t, n, 1, func(tr *rafthttp.Transport) { tr.MaxMessageBytes, tr.Logger = limit, zap.New(core) })
		b := startSimulated(t, n, 2, nil)
		connect(t, a, b)
		a.AddPeer(3, silentHost(n, 3)) // has no stream
		a.AddRemote(4, silentHost(n, 4))
		for i := range uint64(10) {
			for to := uint64(2); to <= 4; to++ {
				a.Send([]*raftpb.Message{msgApp(2, 1, 3*i+to, nil), {Type: raftpb.MsgApp.Enum(), To: new(to), Context: make([]byte, limit)}, heartbeat(2, 1, 0)})
			}
		}
		synctest.Wait()
		require.Len(t, b.raft.received(), 60, "what is beside it")
		for to, lane := range map[uint64]string{2: "msgapp", 3: "pipeline"} {
			require.EqualValues(t, 10, laneOf(a, 2, "msgapp").Drops.TooLarge)
			require.NotZero(t, a.raft.unreachables(to), lane)
		}
		require.NotZero(t, a.raft.unreachables(4))
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
	simulate(t, func(t *testing.T, n *memnet.Network) {
		a := startSimulated(t, n, 1, nil)
		b := startSimulated(t, n, 2, func(tr *rafthttp.Transport) { tr.MaxMessageBytes = 64 << 10 })
		connect(t, a, b)
		const beats = 150
		data := make([]byte, 200<<10)
		for i := range uint64(beats) {
			a.Send([]*raftpb.Message{heartbeat(2, 1, i), msgApp(2, 1, i, data)})
			time.Sleep(100 * time.Millisecond)
		}
		require.Len(t, b.raft.received(), beats)
		require.Contains(t, a.Status().Peers[0].LastError, "exceed")
		for _, s := range a.Status().Peers[0].Streams {
			if s.Name == "message" {
				require.EqualValues(t, 1, s.Connects, s.Direction)
			}
		}
	})
}

// TestAppendsFallBackToTheMessageStream: appends as large as those before them, whose stream is lost, go over the message stream
// if the lost one lived on after the first of them, which the peer has taken then, and by posts if not.
func TestAppendsFallBackToTheMessageStream(t *testing.T) {
	for lived, want := range map[time.Duration]string{2 * readTimeout: "message", readTimeout / 2: "pipeline"} {
		t.Run(want, func(t *testing.T) {
			simulate(t, func(t *testing.T, n *memnet.Network) {
				a := startSimulated(t, n, 1, nil)
				a.AddPeer(2, silentHost(n, 2))
				dial := n.Host("m2").DialContext
				arrivals(t, dialStream(t, dial, a, "message", 2))
				c := dialStream(t, dial, a, "msgapp", 2)
				go func() { _, _ = c.read("msgapp", 2, 1) }()
				waitStreams(t, a, 2)
				next := uint64(0)
				one := func() {
					a.Send([]*raftpb.Message{msgApp(2, 1, next, make([]byte, 1000))})
					next++
				}
				for began := time.Now(); time.Since(began) < lived; time.Sleep(100 * time.Millisecond) {
					one()
				}
				c.Close()
				within(t, time.Second, func() bool { return !laneOf(a, 2, "msgapp").Up })
				pipeline := laneOf(a, 2, "pipeline")
				one()
				synctest.Wait()
				require.Equal(t, want == "message", laneOf(a, 2, "message").Messages == 1)
				require.Equal(t, want == "pipeline", laneOf(a, 2, "pipeline") != pipeline)
			})
		})
	}
}

// TestMemoryLimitIsAReason: what is dropped for the bound of all queues together says so.
func TestMemoryLimitIsAReason(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		a := startSimulated(t, n, 1, func(tr *rafthttp.Transport) { tr.MaxQueuedBytes = 1 << 20 })
		a.AddPeer(2, silentHost(n, 2))
		n.Link("m1", "m2").Cut()
		for i := range uint64(20) {
			a.Send([]*raftpb.Message{msgApp(2, 1, i, make([]byte, 100<<10))})
		}
		d := laneOf(a, 2, "pipeline").Drops
		require.NotZero(t, d.MemoryLimit)
		require.Zero(t, d.QueueFull)
		require.ErrorIs(t, rafthttp.ErrMemoryLimit, rafthttp.ErrQueueFull)
		require.Equal(t, rafthttp.DropMemoryLimit, rafthttp.DropReasonOf(rafthttp.ErrMemoryLimit))
	})
}
