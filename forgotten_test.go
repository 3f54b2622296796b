package rafthttp_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/memnet"
)

// TestPostsDroppedByACutAreForgotten: appends that a Send had queued when the peer was cut are sent again after that.
func TestPostsDroppedByACutAreForgotten(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		a, b := startSimulated(t, n, 1, nil), startSimulated(t, n, 2, nil)
		a.AddPeer(2, []string{b.url}) // which reads no stream
		var appends []*raftpb.Message
		for i := range uint64(100) {
			appends = append(appends, msgApp(2, 1, i, nil))
		}
		a.CutPeer(2)
		a.QueuePosts(2, appends)
		synctest.Wait()
		require.Zero(t, laneOf(a, 2, "pipeline").Queued)
		require.NotZero(t, a.raft.unreachables(2))
		a.MendPeer(2)
		a.Send(appends[:10])
		within(t, time.Second, func() bool { return len(b.raft.received()) == 10 })
	})
}

// TestLanesOfFormerPeersAreForgotten: also if they were in use.
func TestLanesOfFormerPeersAreForgotten(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		h := newHoldingRaft(func(*raftpb.Message) bool { return true })
		a, posts := onHolding(t, n, h, nil)
		silentHost(n, 2)
		posts.codes = make(chan int, 1000)
		for range 10 {
			for _, m := range ofEachKind() {
				posts.post(peerHeader(nil), m)
			}
			addTalker(a)
			for _, m := range ofEachKind() {
				posts.post(peerHeader(nil), m)
			}
			a.RemovePeer(2)
		}
		guests, earlier := a.LanesRemembered()
		require.Equal(t, []int{30, 3}, []int{guests, earlier}, "as many as have posts under way")
		close(h.release)
		posts.all()
		synctest.Wait()
		guests, earlier = a.LanesRemembered()
		require.Equal(t, []int{0, 0}, []int{guests, earlier})
	})
}
