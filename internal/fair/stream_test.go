package fair

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
)

// streamTest is a Stream with appends of group 1, for a slow Process, and of group 2.
type streamTest struct {
	*Pool
	t          *testing.T
	bad, other *Inbox
	by         *Stream
	size       int64

	waited, most      time.Duration // for the slow group
	beyond            time.Duration // of that, beyond what freeRate allows
	refused, accepted int
}

// slowStream runs f with a Process that takes so long for an append of group 1, which is known, none for one of group 2, nearly a millisecond for one of group 3, and an hour for others.
func slowStream(t *testing.T, size int64, takes time.Duration, f func(t *testing.T, st *streamTest)) {
	bubble.Test(t, func(t *testing.T) {
		var wg sync.WaitGroup
		st := &streamTest{t: t, size: size, by: new(Stream), Pool: NewPool(PoolConfig{Wait: &wg, Process: func(in *Inbox, _ *raftpb.Message, _ int64) {
			switch in.Group {
			case 1:
				time.Sleep(takes)
			case 2:
			case 3:
				time.Sleep(blockedAfter * 9 / 10)
			default:
				time.Sleep(time.Hour)
			}
		}})}
		s := NewShare(queue.Limits{Messages: 64, Bytes: 64 << 20})
		st.bad, st.other = &Inbox{Group: 1, Share: s}, &Inbox{Group: 2, Share: s}
		for range 10 {
			require.Equal(t, queue.Accepted, st.Offer(st.bad, message(raftpb.MsgApp), size, false))
		}
		time.Sleep(2 * sharedFor)
		defer wg.Wait()
		defer st.Close()
		f(t, st)
	})
}

// offer offers an append of the slow group.
func (st *streamTest) offer(by *Stream, size int64) error {
	began := time.Now()
	err := st.OfferWait(st.t.Context(), by, st.bad, message(raftpb.MsgApp), size, 5*time.Second)
	took := time.Since(began)
	st.waited, st.most = st.waited+took, max(st.most, took)
	if err != nil {
		require.ErrorIs(st.t, err, errs.ErrQueueFull)
		require.True(st.t, took == 0 || took >= standsAfter, "it has waited too short for most: %v", took)
		st.refused++
		st.beyond += took
	} else {
		st.accepted++
		st.beyond += max(0, took-freeWait(size))
	}
	return err
}

// offerOther offers an append of the other group, as a stream does.
func (st *streamTest) offerOther(by *Stream) {
	if n, _ := st.OfferAll(by, []Received{{Inbox: st.other, Msg: message(raftpb.MsgApp), Size: 1000}}); n == 0 {
		require.NoError(st.t, st.OfferWait(st.t.Context(), by, st.other, message(raftpb.MsgApp), 1000, 5*time.Second))
	}
}

// flood offers appends of the slow group for so long, and of the other group as well if that is set.
func (st *streamTest) flood(d, pause time.Duration, others bool) {
	for began := time.Now(); time.Since(began) < d; time.Sleep(pause) {
		_ = st.offer(st.by, st.size)
		if others {
			st.offerOther(st.by)
		}
	}
}

// TestSlowInboxDelaysAStreamAPartOfTheTime: offers wait for an inbox that goes on, and takes little, for waitCredit, and then for a part of
// the time, as long as there are others, beside what it takes at freeRate; alone, or with large messages, for all of it.
func TestSlowInboxDelaysAStreamAPartOfTheTime(t *testing.T) {
	const slow = 10 * time.Millisecond
	for name, c := range map[string]struct {
		size   int64
		takes  time.Duration
		others bool
		all    bool
	}{
		"small": {1000, slow, true, false}, "small, alone": {1000, slow, false, true}, "large": {1 << 20, slow, true, true},
		"not large enough": {slow.Milliseconds() * freeRate / 1000 * 3 / 4, slow, true, false},
		"quick":            {1000, blockedAfter * 99 / 100, true, true}, "just slow": {1000, blockedAfter, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			slowStream(t, c.size, c.takes, func(t *testing.T, st *streamTest) {
				st.flood(10*time.Second, min(time.Millisecond, c.takes/10), c.others)
				require.LessOrEqual(t, st.most, max(2*c.takes, 2*standsAfter))
				if c.all {
					require.Zero(t, st.refused)
					require.Greater(t, st.waited, 7*time.Second)
				} else {
					require.NotZero(t, st.refused)
					require.Less(t, st.waited, 5*time.Second)
					require.InDelta(t, waitCredit+10*time.Second/waitPart, st.beyond, float64(waitCredit))
				}
			})
		})
	}
}

// TestWaitsAloneAreNoDebt: as long as a slow inbox is the only one its offers delay nobody, and others that come later find it as one
// that has not waited yet. So do offers that no stream has brought.
func TestWaitsAloneAreNoDebt(t *testing.T) {
	for name, c := range map[string]struct {
		by     func(st *streamTest) *Stream
		others bool
	}{
		"of the stream":          {func(st *streamTest) *Stream { return st.by }, false},
		"of another":             {func(*streamTest) *Stream { return new(Stream) }, false},
		"of none":                {func(*streamTest) *Stream { return nil }, false},
		"of none, with others":   {func(*streamTest) *Stream { return nil }, true},
		"of another with others": {func(*streamTest) *Stream { return new(Stream) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			slowStream(t, 1000, 10*time.Millisecond, func(t *testing.T, st *streamTest) {
				by := c.by(st)
				for began := time.Now(); time.Since(began) < 20*time.Second; {
					require.NoError(t, st.offer(by, st.size), "it moves, and delays nobody")
					if c.others {
						st.offerOther(st.by)
					}
				}
				require.Greater(t, st.waited, 15*time.Second)
				st.beyond = 0
				st.flood(10*time.Second, time.Millisecond, true)
				require.InDelta(t, waitCredit+10*time.Second/waitPart, st.beyond, float64(waitCredit))
			})
		})
	}
}

// TestStreamIsSharedWhileItWaits: others do not come while the stream waits, and are there afterwards.
func TestStreamIsSharedWhileItWaits(t *testing.T) {
	slowStream(t, 1<<20, 20*time.Millisecond, func(t *testing.T, st *streamTest) {
		_ = st.offer(st.by, 1000)
		st.offerOther(st.by)
		for st.waited < 2*sharedFor {
			require.NoError(t, st.offer(st.by, st.size))
		}
		for st.refused == 0 {
			require.Less(t, st.beyond, 2*waitCredit)
			_ = st.offer(st.by, 1000)
		}
		require.InDelta(t, waitCredit*waitPart/(waitPart-1), st.beyond, float64(2*standsAfter))
		time.Sleep(2 * sharedFor) // without others
		for st.beyond = 0; st.beyond < time.Second; {
			require.NoError(t, st.offer(st.by, 1000))
		}
	})
}

// TestLargeAppendsAmongSmallOnes: once nothing waits for a slow inbox any more that brings little, what brings enough still does.
func TestLargeAppendsAmongSmallOnes(t *testing.T) {
	slowStream(t, 1000, 40*time.Millisecond, func(t *testing.T, st *streamTest) {
		for range 100 {
			st.flood(200*time.Millisecond, time.Millisecond, true)
			for range 10 {
				require.NoError(t, st.offer(st.by, 1<<20))
			}
		}
	})
}

// TestLongWaitForAnInboxThatMoves: an offer that needs room of many messages has waited for all of them.
func TestLongWaitForAnInboxThatMoves(t *testing.T) {
	slowStream(t, 1000, 10*time.Millisecond, func(t *testing.T, st *streamTest) {
		st.offerOther(st.by)
		for _, in := range []*Inbox{st.bad, {Group: 4, Share: st.bad.Share}, {Group: 5, Share: st.bad.Share}, {Group: 6, Share: st.bad.Share}} {
			for st.Offer(in, message(raftpb.MsgApp), 1000, false) == queue.Accepted {
			}
		}
		require.Error(t, st.offer(st.by, 1000))
		require.InDelta(t, waitCredit, st.waited, float64(2*standsAfter))
	})
}

// TestQuickInboxBesideASlowOne: what a stream waits for quick groups is no debt, and once it waits no more for slow groups it still does
// for those.
func TestQuickInboxBesideASlowOne(t *testing.T) {
	slowStream(t, 1000, 10*time.Millisecond, func(t *testing.T, st *streamTest) {
		quick := &Inbox{Group: 3, Share: st.bad.Share}
		offer := func() {
			require.NoError(t, st.OfferWait(t.Context(), st.by, quick, message(raftpb.MsgApp), 1000, time.Second))
		}
		offer()
		time.Sleep(blockedAfter)
		for range 2000 {
			st.offerOther(st.by)
			offer()
		}
		began := time.Now()
		for range 2000 {
			_ = st.offer(st.by, st.size)
			offer()
		}
		require.NotZero(t, st.refused)
		require.InDelta(t, waitCredit+time.Since(began)/waitPart, st.beyond, float64(waitCredit)/2)
	})
}
