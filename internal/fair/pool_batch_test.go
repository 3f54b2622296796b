package fair

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
)

// batchPool is a pool whose only worker has a batch of messages of the inboxes given to begin, two of each, and processes them.
type batchPool struct {
	*Pool
	wg        sync.WaitGroup
	mu        sync.Mutex
	processed []Received
	call      func(in *Inbox, m *raftpb.Message) // in Process
}

func newBatchPool(call func(in *Inbox, m *raftpb.Message)) *batchPool {
	p := &batchPool{call: call}
	p.Pool = NewPool(PoolConfig{Workers: 1, MaxWorkers: 8, Wait: &p.wg, Process: func(in *Inbox, m *raftpb.Message, size int64) {
		p.mu.Lock()
		p.processed = append(p.processed, Received{Inbox: in, Msg: m, Size: size})
		p.mu.Unlock()
		p.call(in, m)
	}})
	return p
}

// begin makes the worker take the messages of all inboxes together.
func (p *batchPool) begin(t *testing.T, all []*Inbox, share *Share) {
	gate := make(chan struct{})
	call := p.call
	p.call = func(*Inbox, *raftpb.Message) { <-gate }
	require.Equal(t, queue.Accepted, p.Offer(&Inbox{Share: share}, message(raftpb.MsgProp), 1, false))
	synctest.Wait()
	p.call = call
	var offers []Received
	for i := range 2 {
		for _, in := range all {
			in.Share = share
			offers = append(offers, Received{Inbox: in, Msg: numbered(int(in.Group), uint64(i), raftpb.MsgProp), Size: 1})
		}
	}
	for range all { // of which the worker takes half
		offers = append(offers, Received{Inbox: &Inbox{Group: 1000, Share: share}, Msg: message(raftpb.MsgProp), Size: 1})
	}
	n, v := p.OfferAll(nil, offers)
	require.Equal(t, queue.Accepted, v)
	require.Len(t, offers, n)
	close(gate)
}

// of returns the numbers of the messages of a group that were processed.
func (p *batchPool) of(group uint64) (indexes []uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, one := range p.processed {
		if one.Inbox.Group == group {
			indexes = append(indexes, one.Msg.GetIndex())
		}
	}
	return indexes
}

func (p *batchPool) end(t *testing.T) {
	require.Empty(t, p.Close())
	p.wg.Wait()
	require.Zero(t, p.held)
	require.Zero(t, p.waiting)
	require.Zero(t, p.free.used)
}

// TestMessagesBehindABlockedCall: inboxes whose messages a worker has taken together with one whose Process blocks are processed by
// others, in order, and those that it has processed before have turns again.
func TestMessagesBehindABlockedCall(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		block := make(chan struct{})
		p := newBatchPool(func(in *Inbox, m *raftpb.Message) {
			if in.Group == 2 && m.GetIndex() == 0 {
				<-block
			}
		})
		s := NewShare(roomy)
		all := []*Inbox{{Group: 1}, {Group: 2}, {Group: 3}, {Group: 4}}
		p.begin(t, all, s)
		synctest.Wait()
		require.Equal(t, queue.Accepted, p.Offer(all[0], numbered(1, 2, raftpb.MsgProp), 1, false))
		time.Sleep(3 * blockedAfter)
		require.Equal(t, []uint64{0, 1, 2}, p.of(1))
		require.Equal(t, []uint64{0}, p.of(2))
		require.Equal(t, []uint64{0, 1}, p.of(3))
		require.Equal(t, []uint64{0, 1}, p.of(4))
		held := p.ShareStatus(s).Places
		require.Equal(t, 2, held, "of the group that blocks")
		require.Equal(t, 1, p.Status().Waiting)
		close(block)
		synctest.Wait()
		require.Equal(t, []uint64{0, 1}, p.of(2))
		p.end(t)
	})
}

// TestRemoveInsideACall: Process may end another group whose messages the same worker has taken, has processed, or has not seen.
func TestRemoveInsideACall(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		all := []*Inbox{{Group: 1}, {Group: 2}, {Group: 3}, {Group: 4}}
		left := map[uint64]int{}
		var p *batchPool
		p = newBatchPool(func(in *Inbox, m *raftpb.Message) {
			if in.Group != 2 || m.GetIndex() != 0 {
				return
			}
			for _, other := range []*Inbox{all[0], all[2]} {
				msgs, returned := p.Remove(other)
				<-returned
				left[other.Group] = len(msgs)
			}
		})
		s := NewShare(roomy)
		p.begin(t, all, s)
		synctest.Wait()
		require.Equal(t, map[uint64]int{1: 0, 3: 2}, left)
		require.Equal(t, []uint64{0, 1}, p.of(1))
		require.Equal(t, []uint64{0, 1}, p.of(2))
		require.Empty(t, p.of(3))
		require.Equal(t, []uint64{0, 1}, p.of(4))
		require.Len(t, p.of(1000), 4)
		p.end(t)
	})
}

// TestRemoveDuringACall: the end of an inbox waits for the call that runs for it, and not for those of other inboxes in the batch.
func TestRemoveDuringACall(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		block := make(chan struct{})
		p := newBatchPool(func(in *Inbox, m *raftpb.Message) {
			if in.Group == 2 && m.GetIndex() == 0 {
				<-block
			}
		})
		all := []*Inbox{{Group: 1}, {Group: 2}, {Group: 3}}
		p.begin(t, all, NewShare(roomy))
		synctest.Wait()
		left, returned := p.Remove(all[2])
		require.Len(t, left, 2)
		<-returned
		left, returned = p.Remove(all[0])
		require.Empty(t, left)
		<-returned
		left, returned = p.Remove(all[1])
		require.Len(t, left, 1)
		select {
		case <-returned:
			t.Fatal("Process has not returned")
		default:
		}
		close(block)
		<-returned
		synctest.Wait()
		p.end(t)
	})
}

// TestSlowCallsDoNotHoldOthersUp: as long as workers are free, inboxes do not wait for slow calls of others that one worker has taken
// with them.
func TestSlowCallsDoNotHoldOthersUp(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var wg sync.WaitGroup
		p := NewPool(PoolConfig{Workers: 2, Wait: &wg, Process: func(*Inbox, *raftpb.Message, int64) { time.Sleep(blockedAfter * 4 / 10) }})
		s := NewShare(roomy)
		const n = 40
		var offers []Received
		for range n {
			offers = append(offers, Received{Inbox: &Inbox{Share: s}, Msg: message(raftpb.MsgProp), Size: 1})
		}
		began := time.Now()
		_, v := p.OfferAll(nil, offers)
		require.Equal(t, queue.Accepted, v)
		for p.Status().Held > 0 {
			time.Sleep(blockedAfter / 10)
		}
		require.LessOrEqual(t, time.Since(began), (n/2+2)*blockedAfter*4/10)
		p.Close()
		wg.Wait()
	})
}

// TestOfferAll: messages are accepted up to the first that is refused.
func TestOfferAll(t *testing.T) {
	p := newTestPool(t, 1, 1)
	gone, in := &Inbox{Share: NewShare(roomy)}, &Inbox{Group: 1, Share: NewShare(queue.Limits{Messages: 10, Bytes: 100})}
	p.Remove(gone)
	all := []Received{{Inbox: in, Msg: message(raftpb.MsgApp), Size: 1}, {Inbox: gone, Msg: message(raftpb.MsgApp), Size: 1}, {Inbox: in, Msg: message(raftpb.MsgApp), Size: 1}}
	n, v := p.OfferAll(nil, all)
	require.Equal(t, 1, n)
	require.Equal(t, queue.Down, v)
	n, v = p.OfferAll(nil, nil)
	require.Zero(t, n)
	require.Equal(t, queue.Accepted, v)
	p.end()
}

// TestReadAheadWhatIsTakenBack: while a worker reads ahead, its messages may be taken back, and be Process's, which owns them. It needs the
// race detector.
func TestReadAheadWhatIsTakenBack(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var processed, ahead atomic.Int32
		p := newBatchPool(func(_ *Inbox, m *raftpb.Message) {
			proto.Reset(m)
			processed.Add(1)
		})
		p.cfg.ReadAhead = func(in *Inbox) uint64 {
			if ahead.Add(1) == 1 { // of the worker that has all of them
				time.Sleep(10 * blockedAfter)
				ahead.Store(1)
			}
			return in.Group
		}
		p.begin(t, []*Inbox{{Group: 1}, {Group: 2}, {Group: 3}}, NewShare(roomy))
		time.Sleep(5 * blockedAfter)
		before := processed.Load()
		time.Sleep(10 * blockedAfter)
		synctest.Wait()
		require.EqualValues(t, 9, before, "another worker processes them meanwhile")
		require.EqualValues(t, 9, processed.Load())
		require.Greater(t, ahead.Load(), int32(3), "it has read ahead of what others have processed")
		p.end(t)
	})
}

// TestTurnWhoseCallsBecomeSlow: quick calls are timed together, but those after them that are slow keep the inboxes behind them for a
// moment only.
func TestTurnWhoseCallsBecomeSlow(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		const slow = blockedAfter * 4 / 5
		gate := make(chan struct{})
		var calls atomic.Int32
		var wg sync.WaitGroup
		p := NewPool(PoolConfig{Workers: 1, Wait: &wg, Process: func(in *Inbox, _ *raftpb.Message, _ int64) {
			if in.Group == 0 {
				<-gate
			}
			if in.Group > 1 {
				time.Sleep(slow)
			}
			calls.Add(1)
		}})
		s := NewShare(roomy)
		require.Equal(t, queue.Accepted, p.Offer(&Inbox{Share: s}, message(raftpb.MsgProp), 1, false))
		synctest.Wait()
		var offers []Received
		for group := range uint64(2 * batchMessages) {
			offers = append(offers, Received{Inbox: &Inbox{Group: group + 1, Share: s}, Msg: message(raftpb.MsgProp), Size: 1})
		}
		_, v := p.OfferAll(nil, offers)
		require.Equal(t, queue.Accepted, v)
		close(gate)
		synctest.Wait()
		turns := func() uint64 {
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.workers[0].turns
		}
		before := turns()
		time.Sleep(2*blockedAfter + blockedAfter/2)
		require.Greater(t, turns(), before, "the others wait for any worker")
		time.Sleep(time.Duration(len(offers)) * slow)
		require.Equal(t, 1+len(offers), int(calls.Load()))
		require.Empty(t, p.Close())
		wg.Wait()
	})
}
