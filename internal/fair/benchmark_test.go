package fair

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/queue"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

func heartbeat() *raftpb.Message {
	return &raftpb.Message{
		Type: raftpb.MsgHeartbeat.Enum(), To: new(uint64(2)), From: new(uint64(1)), Term: new(uint64(1)), Commit: new(uint64(1)),
	}
}

// rounds returns a function that offers one heartbeat of each of n flows, takes and releases them.
func rounds(n int) (round func()) {
	const batch = 512
	q := NewSendQueue(SendConfig{Limits: queue.Limits{Messages: 4096, Bytes: 64 << 20, Shared: queue.NewBudget(512 << 20)}, Workers: 1})
	q.workers = 1
	q.Open()
	flows, m := make([]Flow, n), heartbeat()
	size := wire.MemorySize(m)
	var items []Item
	return func() {
		for i := range flows {
			if v := q.Offer(&flows[i], m, size, true); v != queue.Accepted {
				panic(fmt.Sprint(v))
			}
		}
		for q.queued > 0 {
			items, _ = q.Take(items, batch, 0)
			q.Release(items)
			clear(items)
		}
	}
}

// BenchmarkSendQueue is what a heartbeat costs in a queue with 10,000 flows, beside the message itself: it is offered,
// taken and released.
func BenchmarkSendQueue(b *testing.B) {
	const flows = 10_000
	round := rounds(flows)
	b.ReportAllocs()
	for i := 0; i < b.N; i += flows {
		round()
	}
}

// BenchmarkLargeMessages is what a message of 256 KiB costs that waits for 16 turns of its flow.
func BenchmarkLargeMessages(b *testing.B) {
	for _, flows := range []int{2, 50, 1000} {
		b.Run(fmt.Sprint(flows), func(b *testing.B) {
			q, all, m := newSendQueue(roomy), make([]Flow, flows), message(raftpb.MsgApp)
			var items []Item
			for i := 0; i < b.N; {
				for k := range all {
					q.Offer(&all[k], m, 16*quantum, false)
				}
				for q.queued > 0 {
					items, _ = q.Take(items, 512, quantum)
					i += len(items)
					q.Release(items)
					clear(items)
				}
			}
		})
	}
}

// BenchmarkPool is what a message costs from the offer to Process, beside Process itself, with one and with many inboxes.
func BenchmarkPool(b *testing.B) {
	for _, inboxes := range []int{1, 64, poolRound} {
		b.Run(fmt.Sprint(inboxes), func(b *testing.B) {
			round := processed(b, inboxes)
			b.ReportAllocs()
			for i := 0; i < b.N; i += poolRound {
				round()
			}
		})
	}
}

const poolRound = 10_000

// processed returns a function that offers poolRound messages to a pool with n inboxes, and waits until they are processed.
func processed(t testing.TB, n int) (round func()) {
	var wg sync.WaitGroup
	var done atomic.Uint64
	all := make(chan struct{})
	p := NewPool(PoolConfig{Wait: &wg, Process: func(*Inbox, *raftpb.Message, int64) {
		if done.Add(1)%poolRound == 0 {
			all <- struct{}{}
		}
	}})
	t.Cleanup(func() {
		p.Close()
		wg.Wait()
	})
	share := NewShare(queue.Limits{Messages: 4096, Bytes: 64 << 20, Shared: queue.NewBudget(512 << 20)})
	inboxes, m := make([]Inbox, n), heartbeat()
	size := wire.MemorySize(m)
	for i := range inboxes {
		inboxes[i].Share = share
	}
	return func() {
		for i := range poolRound {
			if v := p.Offer(&inboxes[i%n], m, size, true); v != queue.Accepted {
				panic(fmt.Sprint(v))
			}
		}
		<-all
	}
}

// TestAllocations: in steady state a message costs no allocation.
func TestAllocations(t *testing.T) {
	require.Zero(t, testing.AllocsPerRun(10, rounds(1000)))

	var wg sync.WaitGroup
	step := make(chan struct{})
	p := NewPool(PoolConfig{Workers: 1, MaxWorkers: 1, Wait: &wg, Process: func(in *Inbox, _ *raftpb.Message, _ int64) {
		if in.Group == 0 {
			<-step
		}
	}})
	share := NewShare(queue.Limits{Messages: 4096, Bytes: 64 << 20, Shared: queue.NewBudget(512 << 20)})
	inboxes, m := make([]Inbox, 1000), message(raftpb.MsgProp)
	for i := range inboxes {
		inboxes[i] = Inbox{Group: uint64(i % (len(inboxes) - 1)), Share: share} // the first and the last block
	}
	require.Zero(t, testing.AllocsPerRun(10, func() {
		for i := range inboxes {
			require.Equal(t, queue.Accepted, p.Offer(&inboxes[i], m, 100, false))
		}
		step <- struct{}{}
		step <- struct{}{}
	}))
	p.Close()
	wg.Wait()
}
