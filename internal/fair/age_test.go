package fair

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
)

// TestStamps: their differences are right when the clock wraps around.
func TestStamps(t *testing.T) {
	before, after := stampOf(math.MaxUint32*time.Millisecond), stampOf((math.MaxUint32+3)*time.Millisecond)
	require.Greater(t, before, after)
	require.Equal(t, 3*time.Millisecond, before.age(after))
	require.Equal(t, before, before.earlier(after))
	require.Equal(t, before, after.earlier(before))
}

// TestAgeOfAFlowAmongOthers: the age of a queue is that of its oldest message, also of a flow that others overtake in their turns, of
// any kind, and while a worker holds it.
func TestAgeOfAFlowAmongOthers(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		q := newSendQueue(roomy)
		requireAge := func(want time.Duration) {
			t.Helper()
			require.Equal(t, want, q.Status().OldestAge)
		}
		requireAge(0)
		time.Sleep(time.Hour) // nothing is old because the queue was not used
		flood, other, beats := &Flow{Group: 1}, &Flow{Group: 2}, &Flow{Group: 3}
		offer(q, flood, raftpb.MsgApp, quantum, 3)
		requireAge(0)
		time.Sleep(time.Second)
		for range 100 {
			offer(q, other, raftpb.MsgApp, 1, 1)
		}
		offer(q, beats, raftpb.MsgHeartbeat, 1, 1)
		requireAge(time.Second)

		control, _ := q.Take(nil, 10, 0)
		require.Len(t, control, 1)
		q.Release(control)
		requireAge(time.Second)
		taken, _ := q.Take(nil, 1, 0)
		require.Same(t, flood, taken[0].Flow)
		q.Release(taken)
		taken, _ = q.Take(nil, 100, 0)
		require.Same(t, other, taken[0].Flow)
		time.Sleep(time.Second)
		q.Release(taken[:len(taken)-2])
		requireAge(2 * time.Second)
		q.Release(taken[len(taken)-2:])
		require.Equal(t, 2*time.Second, q.Status().OldestAge, "of the flood, which waits")

		taken, _ = q.Take(nil, 100, 0)
		require.Same(t, flood, taken[len(taken)-1].Flow)
		require.Zero(t, q.queued)
		time.Sleep(time.Second)
		requireAge(3 * time.Second)
		offer(q, other, raftpb.MsgApp, 1, 1)
		q.Release(taken[:1])
		requireAge(3 * time.Second) // the worker has more of them
		q.Release(taken[1:])
		requireAge(0) // of the last one
		require.Empty(t, q.hands)
		time.Sleep(time.Second)
		requireAge(time.Second)
		require.Len(t, q.Shut(), 1)
		requireAge(0)
	})
}

// TestAgesWhileMessagesAreTaken: without a clock for each message an age is too high by the time of a batch at most.
func TestAgesWhileMessagesAreTaken(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		q, f := newSendQueue(roomy), &Flow{}
		offer(q, f, raftpb.MsgApp, 1, 2)
		for range 100 {
			taken, _ := q.Take(nil, 1, 0)
			time.Sleep(time.Second)
			offer(q, f, raftpb.MsgApp, 1, 1)
			q.Release(taken)
			age := q.Status().OldestAge // of one that came a second ago, while a batch was written
			require.GreaterOrEqual(t, age, time.Second)
			require.LessOrEqual(t, age, 2*time.Second)
		}
	})
}

// TestSinceWhenMessagesAreOld: one after another; it begins again after the queue was empty, or had none that was old.
func TestSinceWhenMessagesAreOld(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		q, f := newSendQueue(roomy), &Flow{}
		leave := func() {
			taken, _ := q.Take(nil, 1, 0)
			q.Release(taken)
		}
		time.Sleep(time.Millisecond)
		start := time.Now()
		offer(q, f, raftpb.MsgApp, 1, 1)
		time.Sleep(queue.Old - time.Millisecond)
		require.Zero(t, q.Status().OldSince)
		offer(q, f, raftpb.MsgApp, 1, 1)
		time.Sleep(time.Millisecond)
		require.Equal(t, start, q.Status().OldSince)
		for range 5 {
			time.Sleep(queue.Old)
			q.TrimIfIdle(nil)
			leave()
			offer(q, f, raftpb.MsgApp, 1, 1)
			require.Equal(t, start, q.Status().OldSince)
		}
		leave()
		require.Zero(t, q.Status().OldSince)
		again := time.Now()
		offer(q, f, raftpb.MsgApp, 1, 1)
		leave()
		leave()
		require.Zero(t, q.Status().OldestAge)
		offer(q, f, raftpb.MsgApp, 1, 1)
		time.Sleep(queue.Old)
		require.Equal(t, again, q.Status().OldSince)
		leave()
		offer(q, f, raftpb.MsgApp, 1, 1)
		time.Sleep(queue.Old) // nobody has looked while it was empty
		require.Equal(t, again.Add(queue.Old), q.Status().OldSince)
	})
}

// TestAgesOfShares: each has that of its own messages that wait for a worker. Those behind a call that blocks have none: it is known how
// long that takes.
func TestAgesOfShares(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		p := newTestPool(t, 1, 1)
		s, o := NewShare(roomy), NewShare(roomy)
		require.Zero(t, p.ShareStatus(s))
		time.Sleep(time.Hour)
		blocked := p.inboxes(1, 1, s, true)
		p.offer(blocked, 3)
		synctest.Wait()
		time.Sleep(stuckAfter / 2)
		requireAges := func(ofS, ofO time.Duration) {
			t.Helper()
			p.Status()
			require.Equal(t, ofS, p.ShareStatus(s).OldestAge)
			require.Equal(t, ofO, p.ShareStatus(o).OldestAge)
		}
		requireAges(stuckAfter/2, 0)
		time.Sleep(stuckAfter)
		requireAges(0, 0)
		start := time.Now()
		p.offer(p.inboxes(3, 10, o, false), 2)
		time.Sleep(time.Second)
		p.offer(p.inboxes(2, 20, s, false), 2)
		time.Sleep(time.Second)
		requireAges(time.Second, 2*time.Second)
		require.Equal(t, ShareStatus{Places: 6, Bytes: 60, OldestAge: 2 * time.Second, OldSince: start}, p.ShareStatus(o))
		require.Zero(t, p.ShareStatus(s).OldSince)
		time.Sleep(time.Second)
		p.TrimIfIdle()
		require.Equal(t, start, p.ShareStatus(o).OldSince)
		require.Equal(t, start.Add(time.Second), p.ShareStatus(s).OldSince)

		close(blocked[0].Owner.(chan struct{}))
		synctest.Wait()
		require.Zero(t, p.ShareStatus(o))
		require.Zero(t, p.ShareStatus(s))
		requireAges(0, 0)
		require.Empty(t, p.waited)
		p.release = make(chan struct{})
		require.Empty(t, p.end())
	})
}

// TestAgesOfMessagesThatWaitAgain: messages that are taken back from a worker whose Process blocks keep their age.
func TestAgesOfMessagesThatWaitAgain(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		p := newTestPool(t, 1, 2)
		s, o := NewShare(roomy), NewShare(roomy)
		first, second := p.inboxes(1, 1, s, true), p.inboxes(4, 2, o, true)
		p.offer(first, 1)
		synctest.Wait()
		p.offer(second, 3)
		time.Sleep(stuckAfter)
		p.Status()
		require.Equal(t, stuckAfter, p.ShareStatus(s).OldestAge)
		require.Equal(t, stuckAfter, p.ShareStatus(o).OldestAge)
		require.Equal(t, 13, p.ShareStatus(o).Places+p.ShareStatus(s).Places)
		time.Sleep(stuckAfter)
		p.Status()
		require.Zero(t, p.ShareStatus(s).OldestAge)
		require.Equal(t, 2*stuckAfter, p.ShareStatus(o).OldestAge)
		require.Len(t, p.end(), 11)
	})
}

// TestAgesWhileNoWorkerIsLeft: the age of a message begins when it comes, also while as many workers as there may be have calls that block,
// of which the last one was not looked at again.
func TestAgesWhileNoWorkerIsLeft(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		p := newTestPool(t, 2, 3)
		s, o := NewShare(roomy), NewShare(roomy)
		p.offer(p.inboxes(3, 1, s, true), 1)
		time.Sleep(3 * blockedAfter)
		p.offer(p.inboxes(1, 10, s, false), 1)
		synctest.Wait()
		time.Sleep(time.Minute)
		p.offer(p.inboxes(1, 20, o, false), 1)
		ages := func() [2]time.Duration {
			p.TrimIfIdle()
			return [2]time.Duration{p.ShareStatus(s).OldestAge, p.ShareStatus(o).OldestAge}
		}
		calls, now := p.count(0), ages()
		time.Sleep(time.Second)
		later := ages()
		require.Len(t, p.end(), 2)
		require.Equal(t, 3, calls)
		require.Equal(t, [2]time.Duration{time.Minute, 0}, now)
		require.Equal(t, [2]time.Duration{time.Minute + time.Second, time.Second}, later)
	})
}

// TestSinceWhenAQueueIsFull: in messages or in bytes, for each kind, until it is less so.
func TestSinceWhenAQueueIsFull(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		q := newSendQueue(queue.Limits{Messages: 10, Bytes: 1000})
		var start time.Time
		for i := range 8 {
			time.Sleep(time.Second)
			require.Zero(t, q.Status().FullSince)
			start = time.Now()
			offer(q, &Flow{Group: uint64(i)}, raftpb.MsgApp, 1, 1)
		}
		time.Sleep(time.Second)
		offer(q, &Flow{Group: 9}, raftpb.MsgApp, 1, 1)
		require.Equal(t, [queue.Kinds]time.Time{queue.Append: start}, q.Status().FullSince)
		taken, _ := q.Take(nil, 2, 0)
		require.Equal(t, start, q.Status().FullSince[queue.Append], "they are held")
		q.Release(taken)
		require.Zero(t, q.Status().FullSince)
		offer(q, &Flow{}, raftpb.MsgProp, 900, 1)
		require.Zero(t, q.Status().FullSince, "one is taken whatever its size")
		offer(q, &Flow{}, raftpb.MsgProp, 1, 1)
		require.Equal(t, time.Now(), q.Status().FullSince[queue.Proposal])
		q.Shut()
		require.Zero(t, q.Status().FullSince)
	})
}
