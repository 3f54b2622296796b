package fair

import (
	"context"
	"sync"
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

// TestOfferWait: an append waits for room while Process makes progress, and not if its own group has taken it.
func TestOfferWait(t *testing.T) {
	const patience = 5 * time.Second
	limits := queue.Limits{Messages: 8, Bytes: 1000, MessageBytes: 500}
	app := message(raftpb.MsgApp)
	tests := map[string]struct {
		end  func(t *testing.T, p *testPool, in *Inbox, cancel context.CancelCauseFunc) // while the offer waits
		err  error
		took time.Duration
	}{
		"room":   {func(_ *testing.T, p *testPool, _ *Inbox, _ context.CancelCauseFunc) { close(p.release) }, nil, time.Second},
		"stands": {func(*testing.T, *testPool, *Inbox, context.CancelCauseFunc) {}, errs.ErrProcessStalled, patience},
		"ctx": {func(_ *testing.T, _ *testPool, _ *Inbox, cancel context.CancelCauseFunc) {
			cancel(errs.ErrPaused)
		}, errs.ErrPaused, time.Second},
		"removed": {func(_ *testing.T, p *testPool, in *Inbox, _ context.CancelCauseFunc) { p.Remove(in) }, ErrRemoved, time.Second},
		"closed":  {func(_ *testing.T, p *testPool, _ *Inbox, _ context.CancelCauseFunc) { p.Close() }, errs.ErrStopped, time.Second},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
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
				held, _ := p.Held(s)
				require.Equal(t, limits.Messages, held)
				began := time.Now()
				err := p.OfferWait(ctx, &blocked[0], app, 1, patience)
				require.ErrorIs(t, err, errs.ErrQueueFull)
				require.NotErrorIs(t, err, errs.ErrProcessStalled)
				require.Zero(t, time.Since(began), "a group with its share is refused at once")
				require.ErrorIs(t, p.OfferWait(ctx, &blocked[0], app, 501, patience), wire.ErrExceedSizeLimit)

				in := &p.inboxes(1, 100, s, false)[0]
				time.AfterFunc(time.Second, func() { test.end(t, p, in, cancel) })
				require.ErrorIs(t, p.OfferWait(ctx, in, app, 1, patience), test.err)
				require.InDelta(t, test.took.Seconds(), time.Since(began).Seconds(), 0.1)
				synctest.Wait()
				if test.err == nil {
					require.Equal(t, 1, p.count(100))
					p.release = make(chan struct{})
				}
				require.Zero(t, p.waitingOffers.Load())
				p.end()
			})
		})
	}
}

// TestOfferWaitsWithinItsPart: an inbox waits while it holds less than each may that holds something.
func TestOfferWaitsWithinItsPart(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		p, s := newTestPool(t, 1, 64), NewShare(queue.Limits{Messages: 8, Bytes: 1000})
		app, inboxes := message(raftpb.MsgApp), p.inboxes(4, 0, s, true)
		for i := range inboxes { // they hold 4, 2, 1 and 1; if all left as much to another one it would be 8/5
			for p.Offer(&inboxes[i], app, 1, false) == queue.Accepted {
			}
		}
		require.NotErrorIs(t, p.OfferWait(t.Context(), &inboxes[1], app, 1, time.Second), errs.ErrProcessStalled)
		require.ErrorIs(t, p.OfferWait(t.Context(), &inboxes[2], app, 1, time.Second), errs.ErrProcessStalled)
		p.end()
	})
}

// TestOfferWaitsWhileProcessIsSlow: an offer waits longer than its patience while Process takes messages, one by one.
func TestOfferWaitsWhileProcessIsSlow(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var wg sync.WaitGroup
		p := NewPool(PoolConfig{Workers: 1, MaxWorkers: 1, Wait: &wg, Process: func(*Inbox, *raftpb.Message, int64) { time.Sleep(4 * time.Second) }})
		s := NewShare(queue.Limits{Messages: 1 << 20, Bytes: 100})
		slow, other := &Inbox{Share: s}, &Inbox{Share: s}
		for range 10 {
			require.Equal(t, queue.Accepted, p.Offer(slow, message(raftpb.MsgApp), 5, false))
		}
		began := time.Now()
		require.NoError(t, p.OfferWait(t.Context(), other, message(raftpb.MsgApp), 90, 5*time.Second))
		require.GreaterOrEqual(t, time.Since(began), 32*time.Second)
		require.Less(t, time.Since(began), 34*time.Second)
		p.Close()
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
		require.ErrorIs(t, p.OfferWait(t.Context(), in, message(raftpb.MsgApp), 10, time.Second), errs.ErrMemoryLimit)
		time.AfterFunc(time.Second/2, func() { other.Release(0, true) })
		require.NoError(t, p.OfferWait(t.Context(), in, message(raftpb.MsgApp), 10, time.Second))
		synctest.Wait()
		require.Len(t, p.began, 1)
		p.end()
		require.Zero(t, budget.Used())
	})
}
