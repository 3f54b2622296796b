package queue

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
)

// TestOfferAllIsOfferEach: what is accepted at once is what would be accepted one after
// another, within the bounds of the queue and of all queues together.
func TestOfferAllIsOfferEach(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 0))
		limit, other := int64(1+rng.IntN(60_000)), int64(0)
		if rng.IntN(2) == 0 {
			other = rng.Int64N(limit)
		}
		limits := Limits{Messages: 1 + rng.IntN(60), Bytes: int64(1 + rng.IntN(30_000))}
		newFull := func() *Queue {
			limits.Shared = NewBudget(limit)
			others := NewReservation(limits.Shared)
			require.True(t, others.Reserve(&raftpb.Message{}, limit+1, 0)) // all of it
			others.Release(other, true)
			require.Equal(t, other, limits.Shared.Used())
			l := New(Config{Limits: limits})
			l.Open()
			return l
		}
		all, each := newFull(), newFull()
		for range 5 {
			items := make([]Item, rng.IntN(30))
			for i := range items {
				items[i] = NewItem(&raftpb.Message{Type: raftpb.MsgApp.Enum(), Entries: []*raftpb.Entry{{Data: make([]byte, rng.IntN(1000))}}})
			}
			rest, v := all.OfferAll(items)
			n := 0
			var last Verdict
			for n < len(items) {
				if last = each.Offer(items[n]); last != Accepted {
					break
				}
				n++
			}
			require.Equal(t, n, len(items)-len(rest), "seed %d", seed)
			require.Equal(t, last, v, "seed %d", seed)
			require.Equal(t, each.fifos[0].held, all.fifos[0].held)
			require.Equal(t, each.heldBytes, all.heldBytes)
			require.LessOrEqual(t, min(all.heldBytes, limit-limit/8), all.reservation.Reserved(), "seed %d", seed)
			require.Equal(t, all.reservation.Reserved(), all.cfg.Limits.Shared.Used()-other, "seed %d", seed)
			if all.held > 0 { // a worker takes some
				all.workers, each.workers = 1, 1
				take := 1 + rng.IntN(all.held)
				for _, l := range []*Queue{all, each} {
					taken, _ := l.Take(nil, take)
					l.Release(taken, nil)
				}
			}
		}
	}
}
