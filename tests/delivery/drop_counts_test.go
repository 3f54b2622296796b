package delivery_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// TestDropsOfACutAreCountedByLane: what a cut drops is counted, and told to the Observer, for the lane that it was for: also where one
// read of a stream brought several kinds.
func TestDropsOfACutAreCountedByLane(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a, b := testmember.StartSimulated(t, n, 1, nil), testmember.StartSimulated(t, n, 2, nil)
		testmember.Connect(t, a, b)
		synctest.Wait()
		a.CutPeer(2)
		proposal := func() *raftpb.Message { return testmember.OfEachKind()["proposal"] }
		b.Send([]*raftpb.Message{testmember.Heartbeat(1, 2, 1), proposal(), proposal(), proposal()})
		synctest.Wait()
		require.Equal(t, []uint64{1, 3}, []uint64{testmember.LaneOf(a, 2, "control").Drops.Paused, testmember.LaneOf(a, 2, "proposal").Drops.Paused})
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
		testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
			a := testmember.StartSimulated(t, n, 1, tune)
			a.AddPeer(2, testmember.SilentHost(n, 2))
			a.CutPeer(2)
			require.Equal(t, 500, testmember.Ask(t, a.Transport, "POST", "/raft", testmember.PeerHeader(nil), testmember.PostBody(t, testmember.Heartbeat(1, 2, 1))).Code)
			synctest.Wait()
			require.EqualValues(t, 1, testmember.LaneOf(a, 2, "control").Drops.Paused)
		})
	})
	t.Run("too many wait", func(t *testing.T) {
		testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
			h := testmember.NewHoldingRaft(func(*raftpb.Message) bool { return true })
			a, posts := testmember.OnHolding(t, n, h, tune)
			a.AddPeer(2, testmember.SilentHost(n, 2))
			for range 17 {
				posts.Post(testmember.PeerHeader(nil), testmember.OfEachKind()["control"])
			}
			require.Equal(t, 503, <-posts.Codes)
			posts.N--
			counted := testmember.LaneOf(a, 2, "control").Drops.QueueFull
			close(h.Release)
			posts.All()
			require.EqualValues(t, 1, counted)
		})
	})
}

// TestDropsForTheMemoryLimitOnTheWayIn: what is dropped on the way in for the bound of all queues together says so, whichever way it
// came: the remedy is not that for a full lane.
func TestDropsForTheMemoryLimitOnTheWayIn(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		h := testmember.NewHoldingRaft(func(m *raftpb.Message) bool { return m.GetType() == raftpb.MsgApp })
		a, posts := testmember.OnHolding(t, n, h, func(tr *rafthttp.Transport) { tr.MaxQueuedBytes = 100_000 })
		say := testmember.StartTalker(t, n, 2)
		a.AddPeer(2, []string{testmember.URLOf(2)})
		say("msgapp", testmember.MsgApp(1, 2, 1, make([]byte, 1<<20))) // takes all that there is for what is no control message
		synctest.Wait()
		say("message", testmember.OfEachKind()["proposal"])
		say("message", testmember.OfEachKind()["append"])
		posts.Post(testmember.PeerHeader(nil), testmember.OfEachKind()["proposal"])
		require.Equal(t, 503, <-posts.Codes)
		proposals, appends := testmember.LaneOf(a, 2, "proposal"), testmember.LaneOf(a, 2, "append")
		close(h.Release)
		synctest.Wait()
		require.Equal(t, rafthttp.Drops{MemoryLimit: 2}, proposals.Drops)
		require.Equal(t, rafthttp.Drops{MemoryLimit: 1}, appends.Drops)
	})
}

// TestUnreadPostsOfAPeerAreCounted: a post of a peer that is refused before its message is known counts as one that could not be read.
func TestUnreadPostsOfAPeerAreCounted(t *testing.T) {
	t.Run("too many are read", func(t *testing.T) {
		testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
			a := testmember.StartSimulated(t, n, 1, nil)
			a.AddPeer(2, testmember.SilentHost(n, 2))
			for range 16 {
				beginPost(t, n, a, "2", 100, nil)
				synctest.Wait()
			}
			body := testmember.Marshal(t, testmember.Heartbeat(1, 2, 1))
			require.Equal(t, 503, testmember.ReadAnswer(t, beginPost(t, n, a, "2", len(body), body)).StatusCode)
			require.EqualValues(t, 1, testmember.PeerStatus(t, a, 2).ReceiveFailures)
		})
	})
	t.Run("no memory", func(t *testing.T) {
		testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
			const limit = 1 << 20
			a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) { tr.MaxQueuedBytes = 4 * limit })
			a.AddPeer(2, testmember.SilentHost(n, 2))
			large := testmember.Marshal(t, testmember.MsgApp(1, 3, 1, make([]byte, limit)))
			beginPost(t, n, a, "3", len(large), large[:limit])
			synctest.Wait()
			refused := testmember.Marshal(t, testmember.MsgApp(1, 2, 1, make([]byte, limit/64)))
			require.Equal(t, 503, testmember.ReadAnswer(t, beginPost(t, n, a, "2", len(refused), refused)).StatusCode)
			require.EqualValues(t, 1, testmember.PeerStatus(t, a, 2).ReceiveFailures)
			time.Sleep(time.Second) // the server lingers
		})
	})
}

// TestSnapshotsDroppedByACutAreCounted: the message of a snapshot counts as one that a cut has dropped, as that of a post does.
func TestSnapshotsDroppedByACutAreCounted(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a := testmember.StartSimulated(t, n, 1, testmember.Receives(testmember.SavesAll))
		a.AddPeer(2, testmember.SilentHost(n, 2))
		a.CutPeer(2)
		got := testmember.Ask(t, a.Transport, "POST", "/raft/snapshot", testmember.PeerHeader(nil), testmember.SnapshotBody(t, testmember.MsgSnap(1, 2, 7), "db"))
		require.Equal(t, 500, got.Code)
		require.EqualValues(t, 1, testmember.LaneOf(a, 2, "append").Drops.Paused)
	})
}

// TestPostsGivenUpAreNotCountedAsProcessed: a post whose time was over before its turn was dropped, and not handed to Process.
func TestPostsGivenUpAreNotCountedAsProcessed(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		h := testmember.NewHoldingRaft(func(*raftpb.Message) bool {
			time.Sleep(time.Minute) // the time of the post behind it is over by then
			return true
		})
		a, posts := testmember.OnHolding(t, n, h, nil)
		a.AddPeer(2, testmember.SilentHost(n, 2))
		posts.Post(testmember.PeerHeader(nil), testmember.OfEachKind()["proposal"])
		posts.Post(testmember.PeerHeader(nil), testmember.OfEachKind()["proposal"])
		require.Equal(t, map[int]int{500: 2}, posts.All())
		synctest.Wait()
		calls, _ := h.Begun()
		require.Equal(t, 1, calls)
		lane := testmember.LaneOf(a, 2, "proposal")
		require.EqualValues(t, 1, lane.Dropped)
		require.EqualValues(t, 1, lane.Messages)
	})
}
