package rafthttp

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/queue"
)

// TestOfferAllIsOfferEach: what is accepted at once is what would be accepted one after
// another, within the bounds of the lane and of all lanes together.
func TestOfferAllIsOfferEach(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 0))
		limit, other := int64(1+rng.IntN(60_000)), int64(0)
		if rng.IntN(2) == 0 {
			other = rng.Int64N(limit)
		}
		limits := laneLimits{messages: 1 + rng.IntN(60), bytes: int64(1 + rng.IntN(30_000))}
		newFull := func() *lane {
			limits.shared = queue.NewBudget(limit, budgetChunk)
			others := queue.NewReservation(limits.shared)
			require.True(t, others.Reserve(&raftpb.Message{}, limit+1, 0)) // all of it
			others.Release(other, true)
			require.Equal(t, other, limits.shared.Used())
			l := newLane(laneConfig{limits: limits})
			l.reopen()
			return l
		}
		all, each := newFull(), newFull()
		for range 5 {
			items := make([]item, rng.IntN(30))
			for i := range items {
				items[i] = newItem(&raftpb.Message{Type: raftpb.MsgApp.Enum(), Entries: []*raftpb.Entry{{Data: make([]byte, rng.IntN(1000))}}})
			}
			rest, v := all.offerAll(items)
			n := 0
			var last verdict
			for n < len(items) {
				if last = each.offer(items[n]); last != accepted {
					break
				}
				n++
			}
			require.Equal(t, n, len(items)-len(rest), "seed %d", seed)
			require.Equal(t, last, v, "seed %d", seed)
			require.Equal(t, each.queues[0].held, all.queues[0].held)
			require.Equal(t, each.heldBytes, all.heldBytes)
			require.LessOrEqual(t, min(all.heldBytes, limit-limit/8), all.reservation.Reserved(), "seed %d", seed)
			require.Equal(t, all.reservation.Reserved(), all.cfg.limits.shared.Used()-other, "seed %d", seed)
			if all.held > 0 { // a worker takes some
				all.workers, each.workers = 1, 1
				take := 1 + rng.IntN(all.held)
				for _, l := range []*lane{all, each} {
					taken, _ := l.take(nil, take)
					l.release(taken, nil)
				}
			}
		}
	}
}
