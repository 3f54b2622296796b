package fair

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
)

// TestWorkerStartedDuringCheck: a worker that had not begun when the check was scheduled is blocked as well when the
// check runs, or groups that block would be noticed one after another.
func TestWorkerStartedDuringCheck(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // workers begin later than the offers
	bubble.Test(t, func(t *testing.T) {
		p, s := newTestPool(t, 2, 256), NewShare(roomy)
		bad, good := p.inboxes(100, 0, s, true), p.inboxes(10, 1000, s, false)
		p.offer(bad[:1], 1)
		synctest.Wait()
		p.offer(bad[1:], 1)
		p.offer(good, 1)
		time.Sleep(3 * blockedAfter)
		require.Equal(t, 10, p.count(1000))
		p.end()
	})
}

// TestBlockedWorkerIsReplaced at once, even if the others are busy with a turn.
func TestBlockedWorkerIsReplaced(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var wg sync.WaitGroup
		block := make(chan struct{})
		var processed atomic.Int32
		p := NewPool(PoolConfig{Workers: 2, Wait: &wg, Process: func(in *Inbox, _ *raftpb.Message, _ int64) {
			switch in.Group {
			case 0:
				<-block
			case 1:
				time.Sleep(blockedAfter * 9 / 10)
			default:
				processed.Add(1)
			}
		}})
		s := NewShare(roomy)
		for _, group := range []uint64{0, 1, 2} {
			in := &Inbox{Group: group, Share: s}
			for range turnMessages {
				require.Equal(t, queue.Accepted, p.Offer(in, message(raftpb.MsgApp), 1, false))
			}
			synctest.Wait()
		}
		require.Zero(t, processed.Load())
		time.Sleep(blockedAfter * 3 / 2)
		require.Equal(t, int32(turnMessages), processed.Load())
		p.Close()
		close(block)
		wg.Wait()
	})
}

// TestExcessWorkersWait: once the workers that were blocked are back, and have processed what they had taken, no more than
// Workers run, although messages still wait.
func TestExcessWorkersWait(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var wg sync.WaitGroup
		var running, most atomic.Int32
		block := make(chan struct{})
		p := NewPool(PoolConfig{Workers: 2, MaxWorkers: 20, Wait: &wg, Process: func(in *Inbox, _ *raftpb.Message, _ int64) {
			if in.Group == 0 {
				<-block
				return
			}
			most.Store(max(most.Load(), running.Add(1)))
			time.Sleep(blockedAfter * 2 / 5)
			running.Add(-1)
		}})
		s := NewShare(roomy)
		inboxes := make([]Inbox, 220) // the first 20 block
		for i := range inboxes {
			inboxes[i] = Inbox{Group: uint64(i / 20), Share: s}
			require.Equal(t, queue.Accepted, p.Offer(&inboxes[i], message(raftpb.MsgApp), 1, false))
		}
		time.Sleep(10 * blockedAfter)
		require.Zero(t, most.Load())
		close(block)
		time.Sleep(time.Second)
		require.Equal(t, uint64(220), p.Status().Messages)
		require.LessOrEqual(t, most.Load(), int32(2))
		for i := range p.workers {
			require.Equal(t, make([]Received, len(p.workers[i].batch)), p.workers[i].batch, "an idle worker keeps no message")
		}
		p.Close()
		wg.Wait()
	})
}

// TestStatusAfterAllWorkersWereBlocked: a call of Process that has just begun is not blocked, although its message waited
// for long.
func TestStatusAfterAllWorkersWereBlocked(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		p, s := newTestPool(t, 1, 1), NewShare(roomy)
		first := make(chan struct{})
		p.offer([]Inbox{{Group: 1, Owner: first, Share: s}}, 1)
		p.offer(p.inboxes(1, 2, s, true), 1)
		time.Sleep(time.Hour)
		require.Equal(t, uint64(1), p.Status().BlockedGroup)
		close(first)
		synctest.Wait()
		require.Equal(t, 2, p.count(0))
		require.Zero(t, p.Status().Blocked)
		p.end()
	})
}

// TestOfferWhileTheLastWorkersEnd: an inbox whose message comes while MaxWorkers exist, all of which are to end, gets a
// worker.
func TestOfferWhileTheLastWorkersEnd(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // the workers end later than the offer
	for _, most := range []int{1, 2, 256} {
		bubble.Test(t, func(t *testing.T) {
			p, s := newTestPool(t, 2, most), NewShare(roomy)
			p.offer(p.inboxes(most, 0, s, true), 1)
			time.Sleep(10 * blockedAfter)
			require.Len(t, p.workers, most)
			close(p.release)
			time.Sleep(time.Second)
			require.Zero(t, p.Status().Held)
			p.TrimIfIdle()
			p.TrimIfIdle()
			p.offer(p.inboxes(1, 1000, s, false), 1)
			time.Sleep(time.Hour)
			require.Equal(t, 1, p.count(1000))
			p.release = make(chan struct{})
			p.end()
		})
	}
}
