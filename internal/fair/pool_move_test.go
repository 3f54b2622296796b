package fair

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
)

// isFrom returns a condition for Move.
func isFrom(source uint64) func(*raftpb.Message) bool {
	return func(m *raftpb.Message) bool { return m.GetFrom() == source }
}

// TestMove: the messages of one source go on in another inbox, up to its limits, also those that a worker has taken and not begun with.
// The others stay, in order.
func TestMove(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		block := make(chan struct{})
		p := newBatchPool(func(in *Inbox, m *raftpb.Message) {
			if in.Group == 1 && m.GetIndex() == 0 {
				<-block
			}
		})
		s := NewShare(roomy)
		from := &Inbox{Group: 1}
		p.begin(t, []*Inbox{from}, s) // a call for the first message runs, and the worker has the second one
		synctest.Wait()
		for i := range uint64(4) {
			for _, source := range []int{1, 2} {
				require.Equal(t, queue.Accepted, p.Offer(from, numbered(source, 2+i, raftpb.MsgProp), 1, false))
			}
		}
		to := &Inbox{Group: 10, Share: NewShare(queue.Limits{Messages: 3, Bytes: 1000})}
		moved, lost, why := p.Move(from, to, isFrom(1))
		require.Equal(t, 5, moved)
		require.Equal(t, queue.Full, why)
		for i, one := range lost {
			require.EqualValues(t, 6-len(lost)+i, one.Msg.GetIndex())
		}
		held := p.ShareStatus(to.Share).Places
		require.Equal(t, moved-len(lost), held)
		moved, lost, why = p.Move(from, to, isFrom(3))
		require.Zero(t, moved)
		require.Empty(t, lost)
		require.Equal(t, queue.Accepted, why)
		close(block)
		synctest.Wait()
		require.Equal(t, []uint64{0, 2, 3, 4, 5}, p.of(1), "the one that was processed, and those of the other source")
		require.Equal(t, []uint64{1, 2, 3}[:held], p.of(10))
		p.end(t)
	})
}

// movers are sources that send to one inbox, and later each to its own.
type movers struct {
	p      *Pool
	common *Inbox

	mu                sync.Mutex
	l                 log
	in                order
	running, moved    map[uint64]bool
	accepted, unorder int
}

func (r *movers) process(in *Inbox, m *raftpb.Message, _ int64) {
	source := m.GetFrom()
	for wait := in != r.common; wait; {
		runtime.Gosched()
		r.mu.Lock()
		wait = r.running[source]
		r.mu.Unlock()
	}
	r.mu.Lock()
	late := in == r.common && r.moved[source] // the call began while the messages were moved
	r.running[source] = r.running[source] || in == r.common && !late
	r.mu.Unlock()
	if late {
		r.leave(m, order{})
		return
	}
	if m.GetIndex()%7 == 0 {
		runtime.Gosched()
	}
	r.leave(m, r.in)
	if in == r.common {
		r.mu.Lock()
		r.running[source] = false
		r.mu.Unlock()
	}
}

func (r *movers) leave(m *raftpb.Message, in order) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.l.add(m, in) {
		r.unorder++
	}
}

func (r *movers) send(source int, rng *rand.Rand) {
	own := &Inbox{Group: uint64(source), Share: NewShare(queue.Limits{Messages: 50, Bytes: 10_000})}
	in, at := r.common, rng.Uint64N(300)
	for i := range uint64(300) {
		if i == at {
			r.mu.Lock()
			r.moved[uint64(source)] = true
			_, lost, _ := r.p.Move(r.common, own, isFrom(uint64(source)))
			r.mu.Unlock()
			for _, one := range lost {
				r.leave(one.Msg, order{})
			}
			in = own
		}
		if r.p.Offer(in, numbered(source, i+1, raftpb.MsgApp), 1+rng.Int64N(100), false) == queue.Accepted {
			r.mu.Lock()
			r.accepted++
			r.mu.Unlock()
		} else {
			runtime.Gosched()
		}
	}
}

// TestMoveExactlyOnce: while the messages of many sources move out of an inbox, each accepted one leaves once, and those of a source in
// order.
func TestMoveExactlyOnce(t *testing.T) {
	for seed := range uint64(10) {
		budget := queue.NewBudget(100_000)
		r := movers{
			l: log{left: map[key]bool{}}, in: order{}, running: map[uint64]bool{}, moved: map[uint64]bool{},
			common: &Inbox{Group: 1000, Share: NewShare(queue.Limits{Messages: 200, Bytes: 50_000, Shared: budget})},
		}
		var workers, senders sync.WaitGroup
		r.p = NewPool(PoolConfig{Workers: 3, MaxWorkers: 20, Wait: &workers, Process: r.process})
		for i := range 12 {
			senders.Go(func() { r.send(i, rand.New(rand.NewPCG(seed, uint64(i)))) })
		}
		senders.Wait()
		for _, one := range r.p.Close() {
			r.leave(one.Msg, order{})
		}
		workers.Wait()
		require.Zero(t, r.unorder, "seed %d", seed)
		require.Zero(t, r.l.twice, "seed %d", seed)
		require.Len(t, r.l.left, r.accepted, "seed %d", seed)
		require.Zero(t, budget.Used())
		require.Zero(t, r.p.held+r.p.waiting+r.p.free.used)
		require.Zero(t, r.common.held)
	}
}

// TestMoveWhileAnOfferWaits: an offer that waits for room in an inbox has it once messages of that go to another one, whether its own
// source moves or not: its owner finds out which inbox its message is of.
func TestMoveWhileAnOfferWaits(t *testing.T) {
	for _, source := range []int{1, 2} {
		bubble.Test(t, func(t *testing.T) {
			block := make(chan struct{})
			p := newBatchPool(func(in *Inbox, m *raftpb.Message) {
				if m.GetIndex() == 0 {
					<-block
				}
			})
			from := &Inbox{Group: 1, Share: NewShare(queue.Limits{Messages: 4, Bytes: 1000})}
			to := &Inbox{Group: 10, Share: NewShare(roomy)}
			n := uint64(0)
			for ; p.Offer(from, numbered(1, n, raftpb.MsgApp), 1, false) == queue.Accepted; n++ {
			}
			require.Greater(t, n, uint64(1))
			waited := make(chan error, 1)
			go func() {
				waited <- p.OfferWait(t.Context(), nil, from, numbered(source, n, raftpb.MsgApp), 1, time.Minute)
			}()
			synctest.Wait()
			require.Empty(t, waited)
			moved, lost, _ := p.Move(from, to, isFrom(1))
			require.EqualValues(t, n-1, moved, "all but the one that Process has")
			require.Empty(t, lost)
			synctest.Wait()
			require.Len(t, waited, 1, "it does not wait for the one that Process has")
			require.NoError(t, <-waited)
			close(block)
			synctest.Wait()
			require.Equal(t, []uint64{0, n}, p.of(1))
			require.Len(t, p.of(10), moved)
			p.end(t)
		})
	}
}
