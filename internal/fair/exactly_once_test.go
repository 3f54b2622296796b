package fair

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/queue"
)

// message numbers: each source numbers its messages from 1 on in Index, and names itself in From.
type key struct{ source, index uint64 }

// log records which messages left.
type log struct {
	mu    sync.Mutex
	left  map[key]bool
	twice int
}

// order has the last message of each source of messages that leave one after another.
type order map[uint64]uint64

// add records a message, and reports whether it is later than those of its source in the same order.
func (l *log) add(m *raftpb.Message, in order) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := key{m.GetFrom(), m.GetIndex()}
	if l.left[k] {
		l.twice++
	}
	l.left[k] = true
	later := in[k.source] < k.index
	in[k.source] = k.index
	return later
}

// numbered returns the next message of a source.
func numbered(source int, index uint64, t raftpb.MessageType) *raftpb.Message {
	return &raftpb.Message{Type: t.Enum(), From: new(uint64(source)), Index: new(index)}
}

var types = [queue.Kinds]raftpb.MessageType{raftpb.MsgHeartbeat, raftpb.MsgApp, raftpb.MsgProp}

// TestSendQueueExactlyOnce: while messages are offered, taken, drained and flows removed at random, each accepted one
// leaves once, and those of a flow in order.
func TestSendQueueExactlyOnce(t *testing.T) {
	for seed := range uint64(20) {
		const sources = 12
		budget := queue.NewBudget(300_000)
		l := log{left: map[key]bool{}}
		var accepted, disordered atomic.Int64
		var workers, senders sync.WaitGroup
		record := func(items []Item, in order) {
			for _, it := range items {
				if !l.add(it.Msg, in) {
					disordered.Add(1)
				}
			}
		}
		rng, taken := rand.New(rand.NewPCG(seed, 1)), order{} // of the worker
		var q *SendQueue
		q = NewSendQueue(SendConfig{Limits: queue.Limits{Messages: 100, Bytes: 100_000, Shared: budget}, Workers: 1, Wait: &workers, Work: func() {
			var items []Item
			for ok := true; ok; {
				if items, ok = q.Take(items, 1+rng.IntN(20), int64(rng.IntN(3)*20_000)); ok {
					record(items, taken)
				}
				q.Release(items)
				clear(items)
			}
		}})
		q.Open()
		flows := make([]Flow, sources)
		for i := range sources {
			senders.Go(func() {
				rng := rand.New(rand.NewPCG(seed, uint64(i)))
				kind := types[i%3]
				for n := range uint64(500) {
					v := q.Offer(&flows[i], numbered(i, n+1, kind), 1+rng.Int64N(1<<(1+i)), kind == raftpb.MsgHeartbeat)
					if v == queue.Accepted {
						accepted.Add(1)
					} else {
						runtime.Gosched()
					}
					switch rng.IntN(300) {
					case 0:
						record(q.Shut(), order{})
						q.Open()
					case 1:
						record(q.Empty(), order{})
					case 2:
						record(q.Remove(&flows[rng.IntN(sources)]), order{})
					case 3:
						q.TrimIfIdle(nil)
					}
				}
			})
		}
		senders.Wait()
		record(q.Close(), order{})
		workers.Wait()
		require.Zero(t, disordered.Load(), "seed %d", seed)
		require.Zero(t, l.twice, "seed %d", seed)
		require.Len(t, l.left, int(accepted.Load()), "seed %d", seed)
		require.Zero(t, budget.Used())
		require.Zero(t, q.held)
		require.Zero(t, q.free.used)
		for i := range flows {
			require.Equal(t, Flow{kind: flows[i].kind}, flows[i])
		}
	}
}

// TestPoolExactlyOnce: while messages are offered and inboxes removed at random, each accepted message is processed or
// returned once, and those of an inbox in order, one after another.
func TestPoolExactlyOnce(t *testing.T) {
	for seed := range uint64(20) {
		const sources = 12
		r := poolRun{l: log{left: map[key]bool{}}, budget: queue.NewBudget(300_000)}
		for i := range r.processed {
			r.processed[i] = order{}
		}
		r.p = NewPool(PoolConfig{Workers: 2, MaxWorkers: 5, Wait: &r.workers, Process: r.process})
		for i := range r.shares {
			r.shares[i] = NewShare(queue.Limits{Messages: 100, Bytes: 100_000, Shared: r.budget})
		}
		var senders sync.WaitGroup
		for i := range sources {
			senders.Go(func() { r.send(t, i, sources, rand.New(rand.NewPCG(seed, uint64(i)))) })
		}
		if seed%2 == 0 {
			senders.Wait()
		}
		left := r.p.Close()
		senders.Wait()
		r.workers.Wait()
		r.returned(left)
		require.Zero(t, r.disordered.Load(), "seed %d", seed)
		require.Zero(t, r.l.twice, "seed %d", seed)
		require.Len(t, r.l.left, int(r.accepted.Load()), "seed %d", seed)
		require.Zero(t, r.budget.Used())
		require.Zero(t, r.p.held)
		require.Zero(t, r.p.free.used)
		require.Empty(t, r.p.workers)
		require.Zero(t, r.p.running+r.p.idle+r.p.starting+r.p.ending)
	}
}

// poolRun is a pool with random load.
type poolRun struct {
	p                    *Pool
	workers              sync.WaitGroup
	budget               *queue.Budget
	shares               [2]*Share
	l                    log
	accepted, disordered atomic.Int64
	busy                 [120]atomic.Bool // by group
	processed            [120]order       // a call of Process at a time
}

func (r *poolRun) process(in *Inbox, m *raftpb.Message, size int64) {
	if r.busy[in.Group].Swap(true) {
		panic("two calls at once")
	}
	if !r.l.add(m, r.processed[in.Group]) {
		r.disordered.Add(1)
	}
	if size%5 == 0 {
		runtime.Gosched()
	}
	r.busy[in.Group].Store(false)
}

// returned records messages of inboxes for which Process is not called any more.
func (r *poolRun) returned(left []Received) {
	for _, one := range left {
		if !r.l.add(one.Msg, r.processed[one.Inbox.Group]) {
			r.disordered.Add(1)
		}
	}
}

// send offers the messages of one source, of groups that come and go.
func (r *poolRun) send(t *testing.T, source, sources int, rng *rand.Rand) {
	group := source
	in := &Inbox{Group: uint64(group), Share: r.shares[source%2]}
	for n := range uint64(500) {
		m, size, v := numbered(group, n+1, types[source%3]), 1+rng.Int64N(1<<(1+source)), queue.Accepted
		if source%3 == 1 && n%2 == 0 {
			if r.p.OfferWait(t.Context(), nil, in, m, size, 20*time.Millisecond) != nil {
				v = queue.Full
			}
		} else {
			v = r.p.Offer(in, m, size, false)
		}
		if v == queue.Accepted {
			r.accepted.Add(1)
		} else {
			runtime.Gosched()
		}
		switch rng.IntN(100) {
		case 0: // the group leaves; another one comes
			left, returned := r.p.Remove(in)
			<-returned
			r.returned(left)
			if group+sources < len(r.busy) {
				group += sources
			}
			in = &Inbox{Group: uint64(group), Share: r.shares[source%2]}
		case 1:
			r.p.TrimIfIdle()
		}
	}
}
