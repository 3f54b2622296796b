package latency_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/internal/bubble"
)

// TestHealthyChaos: an hour in which lines jitter, disks are slow now and then, load comes in bursts, Ready loops stand still
// for a moment, the leader changes and members restart has no verdict at any member.
func TestHealthyChaos(t *testing.T) {
	span := time.Hour
	if raceEnabled {
		span = 2 * time.Minute
	}
	bubble.Test(t, func(t *testing.T) {
		c := start(t, time.Millisecond, 2*time.Millisecond, nil)
		for from := uint64(1); from <= members; from++ {
			for to := uint64(1); to <= members; to++ {
				c.Link(from, to).SetJitter(5 * time.Millisecond)
			}
		}
		rnd := rand.New(rand.NewPCG(1, 2))
		lead, small, large := uint64(leader), make([]byte, 100), make([]byte, 10<<10)
		member := func() *node { return c.nodes[1+rnd.Uint64N(members)] }
		samples := uint64(0)
		for began, step := time.Now(), 0; time.Since(began) < span; step++ {
			time.Sleep(50 * time.Millisecond)
			happens := func(every time.Duration) bool { return rnd.Int64N(int64(every/(50*time.Millisecond))) == 0 }
			if happens(time.Second) {
				member().fsync.Store(rnd.Int64N(int64(20 * time.Millisecond)))
			}
			if happens(20 * time.Second) {
				member().stall.Store(rnd.Int64N(int64(400 * time.Millisecond)))
			}
			proposals, data := 1, small
			if happens(time.Minute) {
				proposals, data = 200, large
			}
			if happens(2 * time.Minute) {
				lead = 1 + lead%members
				c.nodes[1].raft.TransferLeadership(t.Context(), 0, lead)
			}
			if happens(5 * time.Minute) {
				c.restart(1 + rnd.Uint64N(members))
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			for range proposals {
				_ = c.nodes[lead].raft.Propose(ctx, data)
			}
			cancel()
			if step%5 > 0 {
				continue
			}
			for _, n := range c.nodes[1:] {
				for _, p := range n.member.Status().Peers {
					samples = max(samples, p.Appends.Answer.Count)
					require.Nil(t, p.Appends.Slow, "at %d after %s: %+v %+v", n.id, time.Since(began), p.Appends.Slow, p.Appends)
				}
			}
		}
		require.Greater(t, samples, uint64(200))
	})
}

// restart ends a member as kill -9 does, and starts it again with its log.
func (c *cluster) restart(id uint64) {
	n := c.nodes[id]
	n.member.Crash()
	n.stop()
	time.Sleep(100 * time.Millisecond)
	c.run(id, n.storage, 2*time.Millisecond)
}
