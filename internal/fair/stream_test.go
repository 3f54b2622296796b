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

// slowStream runs f with a Process that takes so long for an append of group 1, which is known, none for one of group 2, and an hour for others.
func slowStream(t *testing.T, size int64, takes time.Duration, f func(st *streamTest)) {
	bubble.Test(t, func(t *testing.T) {
		var wg sync.WaitGroup
		st := &streamTest{t: t, size: size, by: new(Stream), Pool: NewPool(PoolConfig{Wait: &wg, Process: func(in *Inbox, _ *raftpb.Message, _ int64) {
			switch in.Group {
			case 1:
				time.Sleep(takes)
			case 2:
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
		f(st)
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

// offerOther offers an append of the other group, for which there is room.
func (st *streamTest) offerOther(by *Stream) {
	n, v := st.OfferAll(by, []Received{{Inbox: st.other, Msg: message(raftpb.MsgApp), Size: 1000}})
	require.Equal(st.t, 1, n, v)
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
			slowStream(t, c.size, c.takes, func(st *streamTest) {
				st.flood(20*time.Second, min(time.Millisecond, c.takes/5), c.others)
				require.LessOrEqual(t, st.most, 2*c.takes)
				if c.all {
					require.Zero(t, st.refused)
					require.Greater(t, st.waited, 15*time.Second)
				} else {
					require.NotZero(t, st.refused)
					require.Less(t, st.waited, 10*time.Second)
					require.InDelta(t, waitCredit+20*time.Second/waitPart, st.beyond, float64(waitCredit))
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
			slowStream(t, 1000, 10*time.Millisecond, func(st *streamTest) {
				by := c.by(st)
				for began := time.Now(); time.Since(began) < time.Minute; {
					require.NoError(t, st.offer(by, st.size), "it moves, and delays nobody")
					if c.others {
						st.offerOther(st.by)
					}
				}
				require.Greater(t, st.waited, 50*time.Second)
				st.beyond = 0
				st.flood(20*time.Second, time.Millisecond, true)
				require.InDelta(t, waitCredit+20*time.Second/waitPart, st.beyond, float64(waitCredit))
			})
		})
	}
}

// TestStreamIsSharedWhileItWaits: others do not come while the stream waits, and are there afterwards.
func TestStreamIsSharedWhileItWaits(t *testing.T) {
	slowStream(t, 1<<20, 20*time.Millisecond, func(st *streamTest) {
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
	slowStream(t, 1000, 40*time.Millisecond, func(st *streamTest) {
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
	slowStream(t, 1000, 10*time.Millisecond, func(st *streamTest) {
		st.offerOther(st.by)
		for _, in := range []*Inbox{st.bad, {Group: 3, Share: st.bad.Share}, {Group: 4, Share: st.bad.Share}, {Group: 5, Share: st.bad.Share}} {
			for st.Offer(in, message(raftpb.MsgApp), 1000, false) == queue.Accepted {
			}
		}
		require.Error(t, st.offer(st.by, 1000))
		require.InDelta(t, waitCredit, st.waited, float64(2*standsAfter))
	})
}
