package fair

import (
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
)

// testPool is a pool whose Process blocks for the inboxes with an Owner that is a channel, until that is closed.
type testPool struct {
	*Pool
	t       *testing.T
	wg      sync.WaitGroup
	mu      sync.Mutex
	began   []uint64 // groups in the order of the calls of Process
	release chan struct{}
}

func newTestPool(t *testing.T, workers, most int) *testPool {
	p := &testPool{t: t, release: make(chan struct{})}
	p.Pool = NewPool(PoolConfig{Name: "test", Process: p.process, Workers: workers, MaxWorkers: most, Wait: &p.wg})
	return p
}

func (p *testPool) process(in *Inbox, _ *raftpb.Message, _ int64) {
	p.mu.Lock()
	p.began = append(p.began, in.Group)
	p.mu.Unlock()
	if block, ok := in.Owner.(chan struct{}); ok {
		<-block
	}
}

// end unblocks all, closes the pool, and returns the groups of the messages that Process did not get.
func (p *testPool) end() (left []uint64) {
	for _, one := range p.Close() {
		left = append(left, one.Inbox.Group)
	}
	close(p.release)
	p.wg.Wait()
	require.Zero(p.t, p.held)
	require.Zero(p.t, p.heldBytes)
	require.Zero(p.t, p.waiting)
	require.Empty(p.t, p.workers)
	require.Zero(p.t, p.running)
	require.Zero(p.t, p.starting)
	require.Zero(p.t, p.idle)
	require.Zero(p.t, p.ending)
	return left
}

// inboxes returns n inboxes, of the groups from first on.
func (p *testPool) inboxes(n int, first uint64, s *Share, blocked bool) []Inbox {
	all := make([]Inbox, n)
	for i := range all {
		all[i] = Inbox{Group: first + uint64(i), Share: s}
		if blocked {
			all[i].Owner = p.release
		}
	}
	return all
}

func (p *testPool) offer(inboxes []Inbox, times int) {
	for range times {
		for i := range inboxes {
			require.Equal(p.t, queue.Accepted, p.Offer(&inboxes[i], message(raftpb.MsgProp), 10, false))
		}
	}
}

// count returns how often Process was called for groups from first on.
func (p *testPool) count(first uint64) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, g := range p.began {
		if g >= first {
			n++
		}
	}
	return n
}

func (p *testPool) isChecking() bool {
	p.Pool.mu.Lock()
	defer p.Pool.mu.Unlock()
	return p.checking
}

// TestBlockedGroupsDelayOthersOnce: groups whose Process blocks for ever delay the others by about a millisecond, however many
// they are, and no check runs afterwards.
func TestBlockedGroupsDelayOthersOnce(t *testing.T) {
	for _, blocked := range []int{1, 2, 3, 200} {
		for _, workers := range []int{1, 2, 8} {
			bubble.Test(t, func(t *testing.T) {
				p, s := newTestPool(t, workers, 256), NewShare(roomy)
				bad, good := p.inboxes(blocked, 0, s, true), p.inboxes(50, 1000, s, false)
				p.offer(bad, 3)
				p.offer(good, 3)
				time.Sleep(3 * blockedAfter)
				synctest.Wait()
				require.Equal(t, 150, p.count(1000), "%d blocked, %d workers", blocked, workers)
				require.Equal(t, blocked+150, p.count(0))
				for range 10 { // later these are not delayed, or once for those that were not seen yet
					p.offer(good, 1)
					time.Sleep(2 * blockedAfter)
				}
				require.Equal(t, 650, p.count(1000))
				require.False(t, p.isChecking())
				require.Len(t, p.end(), 2*blocked)
			})
		}
	}
}

// TestAllWorkersBlocked: a thousand groups that block use up the workers of their kind, and no more: other kinds are not
// delayed at all. Once they return everything is processed, by as many workers as usual.
func TestAllWorkersBlocked(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		p, s := newTestPool(t, 2, 64), NewShare(roomy)
		other := newTestPool(t, 2, 64)
		p.offer(p.inboxes(1000, 0, s, true), 2)
		good := p.inboxes(1, 1000, s, false)
		p.offer(good, 1)
		for range 10 {
			began := time.Now()
			other.offer(other.inboxes(100, 0, NewShare(roomy), false), 2)
			synctest.Wait()
			require.Zero(t, time.Since(began))
			time.Sleep(blockedAfter)
		}
		require.Equal(t, 2000, other.count(0))
		require.Equal(t, 64, p.count(0))
		require.Equal(t, 64, p.Status().Workers)
		require.False(t, p.isChecking(), "nothing can be done")
		time.Sleep(time.Hour)
		st := p.Status()
		require.Equal(t, 64, st.Blocked)
		require.Equal(t, 64, st.Running)
		require.Equal(t, 2001-64, st.Waiting)
		require.Equal(t, 2001, st.Held)

		close(p.release)
		synctest.Wait()
		require.Equal(t, 2001, p.count(0))
		require.Equal(t, uint64(2001), p.Status().Messages)
		require.Zero(t, p.Status().Running)
		p.TrimIfIdle()
		p.TrimIfIdle()
		synctest.Wait()
		require.Zero(t, p.Status().Workers, "nothing waits")
		require.Nil(t, p.free.free)
		require.Nil(t, p.run.buf)
		p.release = make(chan struct{})
		require.Empty(t, p.end())
		require.Empty(t, other.end())
	})
}

// TestSlowGroupsUseTheWorkers: as long as Process returns, no more than Workers run, and as many of them as others are
// blocked.
func TestSlowGroupsUseTheWorkers(t *testing.T) {
	for blocked := range 4 {
		bubble.Test(t, func(t *testing.T) {
			var wg sync.WaitGroup
			var running, most atomic.Int32
			block := make(chan struct{})
			p := NewPool(PoolConfig{Workers: 3, Wait: &wg, Process: func(in *Inbox, _ *raftpb.Message, _ int64) {
				if in.Group < uint64(blocked) {
					<-block
					return
				}
				most.Store(max(most.Load(), running.Add(1)))
				time.Sleep(blockedAfter * 2 / 5)
				running.Add(-1)
			}})
			s := NewShare(roomy)
			inboxes := make([]Inbox, 40)
			for i := range inboxes {
				inboxes[i] = Inbox{Group: uint64(i), Share: s}
				for range 20 {
					require.Equal(t, queue.Accepted, p.Offer(&inboxes[i], message(raftpb.MsgApp), 1, false))
				}
			}
			began := time.Now()
			for p.Status().Messages < uint64(20*(40-blocked)) {
				time.Sleep(blockedAfter)
			}
			if blocked < 3 { // otherwise each inbox that waits gets a worker, once
				require.Equal(t, int32(3), most.Load())
			}
			require.Less(t, time.Since(began), 800*blockedAfter*2/5/3*5/4)
			p.Close()
			close(block)
			wg.Wait()
		})
	}
}

// TestTurnsOfInboxes: an inbox with many messages has a turn of a few, and then the others have theirs.
func TestTurnsOfInboxes(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		p, s := newTestPool(t, 1, 1), NewShare(roomy)
		gate := p.inboxes(1, 0, s, true)
		p.offer(gate, 1)
		synctest.Wait()
		flood, others := p.inboxes(1, 1, s, false), p.inboxes(5, 2, s, false)
		p.offer(flood, 10*turnMessages)
		p.offer(others, 1)
		close(p.release)
		synctest.Wait()
		require.Len(t, p.began, 1+10*turnMessages+5)
		for i, g := range p.began[:1+turnMessages+5] {
			switch {
			case i == 0:
			case i <= turnMessages:
				require.Equal(t, uint64(1), g)
			default:
				require.Equal(t, uint64(1+i-turnMessages), g)
			}
		}
		p.release = make(chan struct{})
		p.end()
	})
}

// TestRemovedInbox: the messages of a group that leaves are returned, a call of Process that runs is announced once it
// has returned, and no other follows.
func TestRemovedInbox(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		p, s := newTestPool(t, 1, 3), NewShare(roomy)
		running, queued, idle := &p.inboxes(1, 0, s, true)[0], &p.inboxes(1, 1, s, false)[0], &p.inboxes(1, 2, s, false)[0]
		msgs := make([]*raftpb.Message, 3*turnMessages)
		for i := range msgs {
			msgs[i] = message(raftpb.MsgApp)
			require.Equal(t, queue.Accepted, p.Offer(running, msgs[i], 10, false))
		}
		require.Equal(t, queue.Accepted, p.Offer(queued, msgs[0], 10, false))
		left, returned := p.Remove(queued)
		require.LessOrEqual(t, len(left), 1)
		<-returned
		synctest.Wait()
		left, returned = p.Remove(running)
		require.Len(t, left, len(msgs)-1)
		for i, one := range left {
			require.Same(t, msgs[i+1], one.Msg)
			require.Equal(t, int64(10), one.Size)
			require.Same(t, running, one.Inbox)
		}
		select {
		case <-returned:
			t.Fatal("Process has not returned")
		default:
		}
		require.Equal(t, queue.Down, p.Offer(running, msgs[0], 10, false))
		_, returned = p.Remove(idle)
		<-returned
		held := p.ShareStatus(s)
		require.Equal(t, 1, held.Places, "that of Process")
		require.Equal(t, int64(10), held.Bytes)
		again, returned := p.Remove(running)
		require.Empty(t, again)
		close(p.release)
		<-returned
		synctest.Wait()
		require.Equal(t, 1, p.count(0)-p.count(1))
		p.release = make(chan struct{})
		require.Empty(t, p.end())
	})
}

// TestPoolFloodsLeaveRoom: n groups that flood, one after another or together, leave 1/(n+1) of a limit to the others of the
// same node, and an eighth however many they are, and all to other nodes. Others find room for a few messages each.
func TestPoolFloodsLeaveRoom(t *testing.T) {
	limits := map[string]queue.Limits{
		"messages": {Messages: 4096, Bytes: 1 << 40},
		"bytes":    {Messages: 1 << 30, Bytes: 4096 * 1000},
		"memory":   {Messages: 1 << 30, Bytes: 1 << 40, Shared: queue.NewBudget(4096 * 1000 * 2 * 8 / 7)},
	}
	for name, limits := range limits {
		for _, n := range []int{1, 2, 3, 7, 13, 100} {
			for together := range 2 {
				t.Run(fmt.Sprint(name, n, together), func(t *testing.T) {
					bubble.Test(t, func(t *testing.T) {
						p := newTestPool(t, 2, 256)
						limits := limits
						if limits.Shared != nil {
							limits.Shared = queue.NewBudget(limits.Shared.Max())
						}
						s, other := NewShare(limits), NewShare(limits)
						floods := p.inboxes(n, 0, s, true)
						if together == 1 {
							for range 4096 {
								for i := range floods {
									p.Offer(&floods[i], message(raftpb.MsgApp), 1000, false)
								}
							}
						} else {
							for i := range floods {
								for p.Offer(&floods[i], message(raftpb.MsgApp), 1000, false) == queue.Accepted {
								}
							}
						}
						held := p.ShareStatus(s).Places
						require.GreaterOrEqual(t, 4096-held, max(4096/(n+1), 4096/8-4*n)-5)
						good := p.inboxes(20, 1000, s, false)
						p.offer(good, 1)
						p.offer(good, 2)
						time.Sleep(10 * blockedAfter)
						p.offer(good, 3)
						p.offer(p.inboxes(20, 2000, other, false), 1)
						time.Sleep(10 * blockedAfter)
						require.Equal(t, 20*7, p.count(1000))
						p.end()
					})
				})
			}
		}
	}
}

// TestLargeMessagesLeaveRoom: groups that block with one large message each leave room to small messages of others.
func TestLargeMessagesLeaveRoom(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		p, s := newTestPool(t, 2, 256), NewShare(queue.Limits{Messages: 4096, Bytes: 64 << 20})
		floods := p.inboxes(1000, 0, s, true)
		for i := range floods {
			p.Offer(&floods[i], message(raftpb.MsgApp), 1<<20, false)
		}
		p.offer(p.inboxes(100, 1000, s, false), 10)
		time.Sleep(10 * blockedAfter)
		require.Equal(t, 1000, p.count(1000))
		p.end()
	})
}

// TestPoolStatus names the group that blocks longest. Calls that return are not blocked, whatever they take together.
func TestPoolStatus(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		p, s := newTestPool(t, 2, 10), NewShare(roomy)
		p.offer(p.inboxes(1, 7, s, true), 1)
		time.Sleep(time.Minute)
		p.offer(p.inboxes(1, 8, s, true), 1)
		time.Sleep(2 * time.Second)
		st := p.Status()
		require.Equal(t, 2, st.Blocked)
		require.Equal(t, uint64(7), st.BlockedGroup)
		require.Equal(t, time.Minute+2*time.Second, st.BlockedFor)
		p.end()

		var wg sync.WaitGroup
		slow := NewPool(PoolConfig{Workers: 1, Wait: &wg, Process: func(*Inbox, *raftpb.Message, int64) { time.Sleep(700 * time.Millisecond) }})
		in := &Inbox{Share: s}
		for range turnMessages {
			require.Equal(t, queue.Accepted, slow.Offer(in, message(raftpb.MsgApp), 1, false))
		}
		for range 7 * turnMessages {
			require.Zero(t, slow.Status().Blocked)
			time.Sleep(100 * time.Millisecond)
		}
		slow.Close()
		wg.Wait()
	})
}

// TestClosedPool refuses messages, and offers that wait end.
func TestClosedPool(t *testing.T) {
	p := newTestPool(t, 1, 1)
	in := &p.inboxes(1, 0, NewShare(roomy), false)[0]
	require.Empty(t, p.end())
	require.Empty(t, p.Close())
	require.Equal(t, queue.Down, p.Offer(in, message(raftpb.MsgApp), 1, false))
	require.ErrorIs(t, p.OfferWait(t.Context(), nil, in, message(raftpb.MsgApp), 1, time.Hour), errs.ErrStopped)
}
