package fair

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// TestOfferWait: an append waits for room while Process makes progress.
func TestOfferWait(t *testing.T) {
	const patience = 5 * time.Second
	limits := queue.Limits{Messages: 8, Bytes: 1000, MessageBytes: 500}
	app := message(raftpb.MsgApp)
	tests := map[string]struct {
		end  func(p *testPool, in *Inbox, cancel context.CancelCauseFunc) // while the offer waits
		err  error
		took time.Duration
	}{
		"room":    {func(p *testPool, _ *Inbox, _ context.CancelCauseFunc) { close(p.release) }, nil, standsAfter / 2},
		"stands":  {func(*testPool, *Inbox, context.CancelCauseFunc) {}, errs.ErrQueueFull, standsAfter},
		"ctx":     {func(_ *testPool, _ *Inbox, cancel context.CancelCauseFunc) { cancel(errs.ErrPaused) }, errs.ErrPaused, standsAfter / 2},
		"removed": {func(p *testPool, in *Inbox, _ context.CancelCauseFunc) { p.Remove(in) }, errs.ErrPeerRemoved, standsAfter / 2},
		"closed":  {func(p *testPool, _ *Inbox, _ context.CancelCauseFunc) { p.Close() }, errs.ErrStopped, standsAfter / 2},
	}
	for name, test := range tests {
		for empty := range 2 {
			t.Run(fmt.Sprint(name, empty), func(t *testing.T) {
				bubble.Test(t, func(t *testing.T) {
					p, s := newTestPool(t, 1, 64), NewShare(limits)
					ctx, cancel := context.WithCancelCause(t.Context())
					defer cancel(nil)
					blocked := p.inboxes(9, 0, s, true)
					for i := range blocked { // the first holds half, and each at least one
						for p.Offer(&blocked[i], app, 1, false) == queue.Accepted {
						}
					}
					synctest.Wait()
					held := p.ShareStatus(s).Places
					require.Equal(t, limits.Messages, held)
					in := []*Inbox{&blocked[0], &p.inboxes(1, 100, s, false)[0]}[empty]
					began := time.Now()
					require.ErrorIs(t, p.OfferWait(ctx, nil, in, app, 501, patience), wire.ErrExceedSizeLimit)
					time.AfterFunc(standsAfter/2, func() { test.end(p, in, cancel) })
					err := p.OfferWait(ctx, nil, in, app, 1, patience)
					require.ErrorIs(t, err, test.err)
					require.NotErrorIs(t, err, errs.ErrProcessStalled)
					require.Equal(t, test.took, time.Since(began))
					synctest.Wait()
					if test.err == nil {
						require.Equal(t, empty, p.count(100))
						p.release = make(chan struct{})
					}
					require.Zero(t, p.waitingOffers.Load())
					p.end()
				})
			})
		}
	}
}

// TestBlockedInboxesDelayAStreamOnce: an offer for a group whose Process blocks waits a few milliseconds, once, whatever it
// holds, and all of them together no longer than waitCredit at once, however many these groups are: so the messages of the others on the
// same stream arrive.
func TestBlockedInboxesDelayAStreamOnce(t *testing.T) {
	for _, blocked := range []int{1, 2, 3, 13, 100} {
		bubble.Test(t, func(t *testing.T) {
			p, s := newTestPool(t, 2, 256), NewShare(queue.Limits{Messages: 4096, Bytes: 64 << 20})
			bad, good := p.inboxes(blocked, 0, s, true), p.inboxes(100, 1000, s, false)
			app := message(raftpb.MsgApp)
			by := new(Stream)
			offer := func(in *Inbox) error { return p.OfferWait(t.Context(), by, in, app, 1000, 5*time.Second) }
			began := time.Now()
			for i := range bad {
				var err error
				for err == nil {
					err = offer(&bad[i])
				}
				require.ErrorIs(t, err, errs.ErrQueueFull)
				require.NotErrorIs(t, err, errs.ErrProcessStalled)
			}
			for range 10 {
				for i := range bad {
					require.ErrorIs(t, offer(&bad[i]), errs.ErrQueueFull)
				}
			}
			waited := time.Duration(blocked) * standsAfter
			if waited > waitCredit {
				waited = time.Since(began)
				require.InDelta(t, waitCredit*waitPart/(waitPart-1), waited, float64(2*standsAfter))
			}
			require.Equal(t, waited, time.Since(began))
			for i := range good {
				require.NoError(t, offer(&good[i]))
				if i%10 == 9 { // these move
					time.Sleep(2 * blockedAfter)
				}
			}
			require.Equal(t, 100, p.count(1000))
			require.Equal(t, waited+20*blockedAfter, time.Since(began))

			close(p.release) // an inbox that has moved waits again
			synctest.Wait()
			require.NoError(t, offer(&bad[0]))
			p.release = make(chan struct{})
			p.end()
		})
	}
}

// TestQuickInboxesThatBlock: a stream waits for them as for others, and then until it is known that they are not quick any more.
func TestQuickInboxesThatBlock(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var wg sync.WaitGroup
		var blocks atomic.Bool
		release := make(chan struct{})
		p := NewPool(PoolConfig{Wait: &wg, Process: func(*Inbox, *raftpb.Message, int64) {
			if blocks.Load() {
				<-release
			}
		}})
		s, by := NewShare(queue.Limits{Messages: 4096, Bytes: 64 << 20}), new(Stream)
		all := make([]Inbox, 100)
		offer := func(in *Inbox) error {
			return p.OfferWait(t.Context(), by, in, message(raftpb.MsgApp), 1000, 5*time.Second)
		}
		for i := range all {
			all[i] = Inbox{Group: uint64(i + 1), Share: s}
			require.NoError(t, offer(&all[i]))
			synctest.Wait()
		}
		blocks.Store(true)
		began := time.Now()
		for i := range all {
			var err error
			for err == nil {
				err = offer(&all[i])
			}
			require.ErrorIs(t, err, errs.ErrQueueFull)
		}
		took := time.Since(began)
		p.Close()
		close(release)
		wg.Wait()
		require.Greater(t, took, waitCredit)
		require.Less(t, took, waitCredit+2*100*blockedAfter)
	})
}

// TestOfferForABlockedInboxDoesNotWait: if Process has not returned for long the offer is refused at once.
func TestOfferForABlockedInboxDoesNotWait(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		p, s := newTestPool(t, 2, 256), NewShare(queue.Limits{Messages: 4096, Bytes: 64 << 20})
		in := &p.inboxes(1, 0, s, true)[0]
		for p.Offer(in, message(raftpb.MsgApp), 1000, false) == queue.Accepted {
		}
		time.Sleep(standsAfter)
		began := time.Now()
		require.ErrorIs(t, p.OfferWait(t.Context(), nil, in, message(raftpb.MsgApp), 1000, time.Second), errs.ErrQueueFull)
		require.Zero(t, time.Since(began))
		p.end()
	})
}

// TestOfferWaitsForAnInboxThatMoves: a group whose Process is slower than its stream pushes back on it, and loses nothing.
func TestOfferWaitsForAnInboxThatMoves(t *testing.T) {
	limits := map[string]queue.Limits{
		"messages": {Messages: 64, Bytes: 1 << 40},
		"bytes":    {Messages: 4096, Bytes: 64 << 20},
		"memory":   {Messages: 4096, Bytes: 64 << 20, Shared: queue.NewBudget(40 << 20)},
	}
	for name, limits := range limits {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				var wg sync.WaitGroup
				var n atomic.Int32
				p := NewPool(PoolConfig{Workers: 2, Wait: &wg, Process: func(*Inbox, *raftpb.Message, int64) {
					time.Sleep(100 * time.Microsecond)
					n.Add(1)
				}})
				in := &Inbox{Share: NewShare(limits)}
				for range 200 {
					require.NoError(t, p.OfferWait(t.Context(), nil, in, message(raftpb.MsgApp), 1<<20, 5*time.Second))
					time.Sleep(20 * time.Microsecond)
				}
				time.Sleep(time.Second)
				require.Equal(t, int32(200), n.Load())
				p.Close()
				wg.Wait()
			})
		})
	}
}

// TestOfferWaitsWhileOthersMove: an offer for an empty inbox without room waits as long as other inboxes release messages, and
// then not again until they do.
func TestOfferWaitsWhileOthersMove(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var wg sync.WaitGroup
		block := make(chan struct{})
		p := NewPool(PoolConfig{Workers: 1, MaxWorkers: 1, Wait: &wg, Process: func(in *Inbox, _ *raftpb.Message, _ int64) {
			if in.Group == 1 {
				<-block
			}
			time.Sleep(standsAfter * 4 / 5)
		}})
		s := NewShare(queue.Limits{Messages: 1 << 20, Bytes: 100})
		slow, blocked, other := &Inbox{Share: s}, &Inbox{Group: 1, Share: s}, &Inbox{Group: 2, Share: s}
		fill := func(in *Inbox) {
			for range 10 {
				require.Equal(t, queue.Accepted, p.Offer(in, message(raftpb.MsgApp), 5, false))
			}
		}
		fill(slow)
		began := time.Now()
		wait := func(size int64) error {
			return p.OfferWait(t.Context(), nil, other, message(raftpb.MsgApp), size, 5*time.Second)
		}
		require.NoError(t, wait(84))
		require.Equal(t, 8*standsAfter*4/5, time.Since(began))
		time.Sleep(time.Second)

		fill(blocked)
		for range 3 {
			began = time.Now()
			require.ErrorIs(t, wait(84), errs.ErrQueueFull)
			require.LessOrEqual(t, time.Since(began), standsAfter)
			began = time.Now()
			require.ErrorIs(t, wait(84), errs.ErrQueueFull)
			require.Zero(t, time.Since(began))
			block <- struct{}{}
			time.Sleep(standsAfter) // the next call has begun
		}
		p.Close()
		close(block)
		wg.Wait()
	})
}

// TestOfferWaitForMemory: a group that holds nothing waits for the memory that all queues share.
func TestOfferWaitForMemory(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		budget := queue.NewBudget(1000)
		other := queue.NewReservation(budget)
		require.True(t, other.Reserve(message(raftpb.MsgHeartbeat), 2000, 0))
		p := newTestPool(t, 1, 1)
		in := &p.inboxes(1, 0, NewShare(queue.Limits{Messages: 10, Bytes: 1000, Shared: budget}), false)[0]
		began := time.Now()
		time.AfterFunc(time.Second/2, func() { other.Release(0, true) })
		require.NoError(t, p.OfferWait(t.Context(), nil, in, message(raftpb.MsgApp), 10, time.Second))
		require.LessOrEqual(t, time.Since(began), time.Second/2+queue.PollInterval)
		synctest.Wait()
		require.Len(t, p.began, 1)
		require.True(t, other.Reserve(message(raftpb.MsgHeartbeat), 2000, 0))
		require.ErrorIs(t, p.OfferWait(t.Context(), nil, in, message(raftpb.MsgApp), 10, time.Second), errs.ErrMemoryLimit)
		other.Release(0, true)
		p.end()
		require.Zero(t, budget.Used())
	})
}

// TestOffersWaitForMemoryOnce: while other queues have all memory, a stream waits for it once, and not for each message.
func TestOffersWaitForMemoryOnce(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		budget := queue.NewBudget(1000)
		other := queue.NewReservation(budget)
		require.True(t, other.Reserve(message(raftpb.MsgHeartbeat), 2000, 0))
		p := newTestPool(t, 1, 1)
		s := NewShare(queue.Limits{Messages: 10, Bytes: 1000, Shared: budget})
		all := p.inboxes(10, 0, s, false)
		began := time.Now()
		for i := range all {
			require.ErrorIs(t, p.OfferWait(t.Context(), nil, &all[i], message(raftpb.MsgApp), 10, 5*time.Second), errs.ErrMemoryLimit)
		}
		require.Equal(t, 5*time.Second, time.Since(began))
		other.Release(0, true)
		for i := range all {
			require.NoError(t, p.OfferWait(t.Context(), nil, &all[i], message(raftpb.MsgApp), 10, 5*time.Second))
		}
		require.Equal(t, 5*time.Second, time.Since(began))
		synctest.Wait()
		require.True(t, other.Reserve(message(raftpb.MsgHeartbeat), 2000, 0))
		require.ErrorIs(t, p.OfferWait(t.Context(), nil, &all[0], message(raftpb.MsgApp), 10, 5*time.Second), errs.ErrMemoryLimit)
		require.Equal(t, 10*time.Second, time.Since(began), "as nothing was short in the meantime")
		other.Release(0, true)
		p.end()
	})
}
