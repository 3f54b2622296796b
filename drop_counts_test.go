package rafthttp_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// TestDropsOfACutAreCountedByLane: what a cut drops is counted, and told to the Observer, for the lane that it was for: also where one
// read of a stream brought several kinds.
func TestDropsOfACutAreCountedByLane(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		a, b := startSimulated(t, n, 1, nil), startSimulated(t, n, 2, nil)
		connect(t, a, b)
		synctest.Wait()
		a.CutPeer(2)
		proposal := func() *raftpb.Message { return ofEachKind()["proposal"] }
		b.Send([]*raftpb.Message{heartbeat(1, 2, 1), proposal(), proposal(), proposal()})
		synctest.Wait()
		require.Equal(t, []uint64{1, 3}, []uint64{laneOf(a, 2, "control").Drops.Paused, laneOf(a, 2, "proposal").Drops.Paused})
	})
}

// TestDroppedPostsOfAPeerAreCounted: a post of a peer that is not processed counts as a message of the peer that was not delivered,
// whichever check it failed.
func TestDroppedPostsOfAPeerAreCounted(t *testing.T) {
	dropped := make(chan error, 100)
	tune := func(tr *rafthttp.Transport) {
		tr.Observer = &rafthttp.Observer{Dropped: func(_ types.ID, _ string, n int, cause error) {
			for range n {
				dropped <- cause
			}
		}}
	}
	t.Run("cut", func(t *testing.T) {
		simulate(t, func(t *testing.T, n *memnet.Network) {
			a := startSimulated(t, n, 1, tune)
			a.AddPeer(2, silentHost(n, 2))
			a.CutPeer(2)
			require.Equal(t, 500, ask(t, a.Transport, "POST", "/raft", peerHeader(nil), postOf(t, heartbeat(1, 2, 1))).Code)
			synctest.Wait()
			require.EqualValues(t, 1, laneOf(a, 2, "control").Drops.Paused)
		})
	})
	t.Run("too many wait", func(t *testing.T) {
		simulate(t, func(t *testing.T, n *memnet.Network) {
			h := newHoldingRaft(func(*raftpb.Message) bool { return true })
			a, posts := onHolding(t, n, h, tune)
			a.AddPeer(2, silentHost(n, 2))
			for range 17 {
				posts.post(peerHeader(nil), ofEachKind()["control"])
			}
			require.Equal(t, 503, <-posts.codes)
			posts.n--
			counted := laneOf(a, 2, "control").Drops.QueueFull
			close(h.release)
			posts.all()
			require.EqualValues(t, 1, counted)
		})
	})
}

// TestDropsForTheMemoryLimitOnTheWayIn: what is dropped on the way in for the bound of all queues together says so, whichever way it
// came: the remedy is not that for a full lane.
func TestDropsForTheMemoryLimitOnTheWayIn(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		h := newHoldingRaft(func(m *raftpb.Message) bool { return m.GetType() == raftpb.MsgApp })
		a, posts := onHolding(t, n, h, func(tr *rafthttp.Transport) { tr.MaxQueuedBytes = 100_000 })
		say := startTalker(t, n, 2)
		a.AddPeer(2, []string{urlOf(2)})
		say("msgapp", msgApp(1, 2, 1, make([]byte, 1<<20))) // takes all that there is for what is no control message
		synctest.Wait()
		say("message", ofEachKind()["proposal"])
		say("message", ofEachKind()["append"])
		posts.post(peerHeader(nil), ofEachKind()["proposal"])
		require.Equal(t, 503, <-posts.codes)
		proposals, appends := laneOf(a, 2, "proposal"), laneOf(a, 2, "append")
		close(h.release)
		synctest.Wait()
		require.Equal(t, rafthttp.Drops{MemoryLimit: 2}, proposals.Drops)
		require.Equal(t, rafthttp.Drops{MemoryLimit: 1}, appends.Drops)
	})
}

// TestUnreadPostsOfAPeerAreCounted: a post of a peer that is refused before its message is known counts as one that could not be read.
func TestUnreadPostsOfAPeerAreCounted(t *testing.T) {
	t.Run("too many are read", func(t *testing.T) {
		simulate(t, func(t *testing.T, n *memnet.Network) {
			a := startSimulated(t, n, 1, nil)
			a.AddPeer(2, silentHost(n, 2))
			for range 16 {
				beginPost(t, n, a, "2", 100, nil)
				synctest.Wait()
			}
			body := marshal(t, heartbeat(1, 2, 1))
			require.Equal(t, 503, readAnswer(t, beginPost(t, n, a, "2", len(body), body)).StatusCode)
			require.EqualValues(t, 1, peerStatus(t, a, 2).ReceiveFailures)
		})
	})
	t.Run("no memory", func(t *testing.T) {
		simulate(t, func(t *testing.T, n *memnet.Network) {
			const limit = 1 << 20
			a := startSimulated(t, n, 1, func(tr *rafthttp.Transport) { tr.MaxQueuedBytes = 4 * limit })
			a.AddPeer(2, silentHost(n, 2))
			large := marshal(t, msgApp(1, 3, 1, make([]byte, limit)))
			beginPost(t, n, a, "3", len(large), large[:limit])
			synctest.Wait()
			refused := marshal(t, msgApp(1, 2, 1, make([]byte, limit/64)))
			require.Equal(t, 503, readAnswer(t, beginPost(t, n, a, "2", len(refused), refused)).StatusCode)
			require.EqualValues(t, 1, peerStatus(t, a, 2).ReceiveFailures)
			time.Sleep(time.Second) // the server lingers
		})
	})
}

// TestSnapshotsDroppedByACutAreCounted: the message of a snapshot counts as one that a cut has dropped, as that of a post does.
func TestSnapshotsDroppedByACutAreCounted(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		a := startSimulated(t, n, 1, receives(savesAll))
		a.AddPeer(2, silentHost(n, 2))
		a.CutPeer(2)
		got := ask(t, a.Transport, "POST", "/raft/snapshot", peerHeader(nil), snapshotBody(t, msgSnap(1, 2, 7), "db"))
		require.Equal(t, 500, got.Code)
		require.EqualValues(t, 1, laneOf(a, 2, "append").Drops.Paused)
	})
}

// TestPostsGivenUpAreNotCountedAsProcessed: a post whose time was over before its turn was dropped, and not handed to Process.
func TestPostsGivenUpAreNotCountedAsProcessed(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		h := newHoldingRaft(func(*raftpb.Message) bool { return true })
		a, posts := onHolding(t, n, h, nil)
		a.AddPeer(2, silentHost(n, 2))
		posts.post(peerHeader(nil), ofEachKind()["proposal"])
		posts.post(peerHeader(nil), ofEachKind()["proposal"])
		require.Equal(t, map[int]int{500: 2}, posts.all())
		synctest.Wait()
		calls, _ := h.begun()
		require.Equal(t, 1, calls)
		lane := laneOf(a, 2, "proposal")
		require.EqualValues(t, 1, lane.Dropped)
		require.EqualValues(t, 1, lane.Messages)
	})
}
