package rafthttp_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// TestPostsDroppedByACutAreForgotten: appends that a Send had queued when the peer was cut are sent again after that.
func TestPostsDroppedByACutAreForgotten(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a, b := testmember.StartSimulated(t, n, 1, nil), testmember.StartSimulated(t, n, 2, nil)
		a.AddPeer(2, []string{b.URL}) // which reads no stream
		var appends []*raftpb.Message
		for i := range uint64(100) {
			appends = append(appends, testmember.MsgApp(2, 1, i, nil))
		}
		a.CutPeer(2)
		a.QueuePosts(2, appends)
		synctest.Wait()
		require.Zero(t, testmember.LaneOf(a, 2, "pipeline").Queued)
		require.NotZero(t, a.Recorder.Unreachables(2))
		a.MendPeer(2)
		a.Send(appends[:10])
		testmember.Within(t, time.Second, func() bool { return len(b.Recorder.Received()) == 10 })
	})
}

// TestLanesOfFormerPeersAreForgotten: also if they were in use.
func TestLanesOfFormerPeersAreForgotten(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		h := testmember.NewHoldingRaft(func(*raftpb.Message) bool { return true })
		a, posts := testmember.OnHolding(t, n, h, nil)
		testmember.SilentHost(n, 2)
		posts.Codes = make(chan int, 1000)
		for range 10 {
			for _, m := range testmember.OfEachKind() {
				posts.Post(testmember.PeerHeader(nil), m)
			}
			testmember.AddTalker(a)
			for _, m := range testmember.OfEachKind() {
				posts.Post(testmember.PeerHeader(nil), m)
			}
			a.RemovePeer(2)
		}
		guests, earlier := a.LanesRemembered()
		require.Equal(t, []int{30, 3}, []int{guests, earlier}, "as many as have posts under way")
		close(h.Release)
		posts.All()
		synctest.Wait()
		guests, earlier = a.LanesRemembered()
		require.Equal(t, []int{0, 0}, []int{guests, earlier})
	})
}
