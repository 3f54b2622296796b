package fair

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
)

// TestPatienceWithASlowProcess: an offer for an inbox whose Process blocks waits for twice what Process took before, within limits, and
// once only. It is forgotten after some calls.
func TestPatienceWithASlowProcess(t *testing.T) {
	const ms = time.Millisecond
	for took, want := range map[time.Duration]time.Duration{0: 5 * ms, 2 * ms: 5 * ms, 20 * ms: 40 * ms, time.Second: 50 * ms} {
		t.Run(took.String(), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				var wg sync.WaitGroup
				var pause atomic.Int64
				p := NewPool(PoolConfig{Process: func(*Inbox, *raftpb.Message, int64) { time.Sleep(time.Duration(pause.Load())) }, Wait: &wg})
				in := &Inbox{Share: NewShare(queue.Limits{Messages: 64, Bytes: 1 << 20})}
				fill := func(d time.Duration) {
					pause.Store(int64(d))
					for p.Offer(in, message(raftpb.MsgApp), 1, false) == queue.Accepted {
					}
				}
				offer := func() time.Duration {
					began := time.Now()
					_ = p.OfferWait(t.Context(), nil, in, message(raftpb.MsgApp), 1, time.Minute)
					return time.Since(began)
				}
				fill(took)
				time.Sleep(time.Hour)
				fill(time.Hour)
				require.InDelta(t, want, offer(), float64(want)/7) // the last call may have been forgotten by an eighth
				require.Zero(t, offer())
				pause.Store(0)
				time.Sleep(time.Hour)
				for range 3 {
					fill(0)
					time.Sleep(time.Second)
				}
				fill(time.Hour)
				require.Equal(t, 5*ms, offer())
				pause.Store(0)
				time.Sleep(time.Hour)
				p.Close()
				wg.Wait()
			})
		})
	}
}
