package latency

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// history is a course whose samples a test adds one after another.
type history struct {
	course
	now time.Time
}

// add adds a sample of the follower that begins after a pause.
func (h *history) add(pause, took time.Duration) View {
	begin := h.now.Add(pause)
	h.now = begin.Add(took)
	h.course.add(of(0, 0, took), Times{}, begin, h.now)
	return h.view(nil, Times{}, h.now, h.now, h.now)
}

// known returns a history in which the follower needs 2 ms.
func known() *history {
	h := &history{now: start}
	for range 100 {
		h.add(98*ms, 2*ms)
	}
	return h
}

// TestSlowForASecond: samples that are slow for a second together, however much time is between them.
func TestSlowForASecond(t *testing.T) {
	h := known()
	require.False(t, h.add(0, 200*ms).Slow)
	require.False(t, h.add(800*ms, 200*ms).Slow, "two samples, a second apart")
	require.False(t, h.add(29*time.Second, 200*ms).Slow)
	require.False(t, h.add(0, 200*ms).Slow)
	require.True(t, h.add(0, 200*ms).Slow)

	h = known()
	require.False(t, h.add(0, 600*ms).Slow)
	h.course.add(of(0, 0, 600*ms), Times{}, h.now.Add(-300*ms), h.now.Add(300*ms)) // two at a time
	require.False(t, h.view(nil, Times{}, h.now, h.now, h.now).Slow, "900 ms together")
	pending := of(0, 0, 900*ms)
	require.False(t, h.view(&pending, Times{}, h.now.Add(-600*ms), h.now.Add(300*ms), h.now).Slow, "nor with one that began before")
	require.True(t, h.view(&pending, Times{}, h.now, h.now.Add(900*ms), h.now).Slow)
}

// TestPastAdapts: what has been slow for an hour is how it is, until it becomes slower, or as quick as it was.
func TestPastAdapts(t *testing.T) {
	for name, c := range map[string]struct {
		each  time.Duration
		pause func(i int) time.Duration
	}{
		"without a pause": {300 * ms, func(int) time.Duration { return 0 }},
		"with pauses":     {300 * ms, func(i int) time.Duration { return time.Duration(i%100/99) * time.Minute }},
		"now and then":    {300 * ms, func(int) time.Duration { return 4 * time.Minute }},
	} {
		t.Run(name, func(t *testing.T) {
			h := known()
			began, i := h.now, 0
			slow := false
			for ; h.now.Add(c.pause(i)).Before(began.Add(adapts - c.each)); i++ {
				slow = h.add(c.pause(i), c.each).Slow || slow
			}
			require.Equal(t, name != "now and then", slow)
			require.Equal(t, 2*ms, h.past.mean[Follower])
			h.add(c.pause(i), c.each)
			require.False(t, h.add(c.pause(i), c.each).Slow)
			require.Equal(t, c.each, h.past.mean[Follower])
			for range 100 {
				require.False(t, h.add(0, c.each).Slow)
			}
			for range 2 {
				slow = h.add(0, 5*c.each).Slow
			}
			require.True(t, slow, "it is slower than that")
			for range 10000 {
				h.add(98*ms, 2*ms)
			}
			for range 5 {
				slow = h.add(0, c.each).Slow
			}
			require.True(t, slow, "it was quick in between")
		})
	}
	h := known()
	for range 2 { // the same twice, with a quick time in between
		for began := h.now; h.now.Before(began.Add(adapts * 3 / 4)); {
			h.add(0, 300*ms)
		}
		for range over {
			h.add(0, 2*ms)
		}
	}
	require.Less(t, h.past.mean[Follower], 3*ms)
	h.add(2*adapts, 300*ms)
	h.add(2*adapts, 300*ms)
	require.Less(t, h.past.mean[Follower], 3*ms, "two samples are no past")
}

// TestPendingContinuesNoOldRun: what has not ended is judged as if it ended now: a run from long ago is over.
func TestPendingContinuesNoOldRun(t *testing.T) {
	for name, c := range map[string]struct {
		pause time.Duration
		slow  bool
	}{
		"at once":    {0, true},
		"soon":       {fresh, true},
		"after that": {fresh + 1, false},
		"an hour":    {time.Hour, false},
	} {
		t.Run(name, func(t *testing.T) {
			h := known()
			for range 6 {
				require.False(t, h.add(0, 150*ms).Slow)
			}
			begin := h.now.Add(c.pause)
			end := begin.Add(110 * ms)
			pending := of(0, 0, 110*ms)
			v := h.view(&pending, Times{}, begin, end, end)
			require.Equal(t, c.slow, v.Slow)
			if !c.slow {
				require.Equal(t, begin, v.Since[Follower])
				require.Equal(t, 110*ms, v.SlowFor)
			}
			require.Equal(t, v, h.add(c.pause, 110*ms), "nothing changes when it ends")
		})
	}
}

// TestSilenceIsNoPast: an hour in which nothing was sent does not make a few slow samples before it the past.
func TestSilenceIsNoPast(t *testing.T) {
	h := known()
	for range pastKnown - 1 {
		h.add(0, 300*ms)
	}
	require.True(t, h.add(10*adapts, 1200*ms).Slow, "slow again")
	require.Equal(t, 2*ms, h.past.mean[Follower])
	for began := h.now; h.now.Before(began.Add(adapts / 2)); {
		require.True(t, h.add(0, 300*ms).Slow)
	}
	for range pastKnown {
		h.add(adapts, 300*ms)
	}
	require.InDelta(t, 300*ms, h.past.mean[Follower], 1e3, "rare samples count as well")
}

// TestBecomesSlowByAndBy: a peer whose disk becomes slower and slower is named, however little at a time it is, and however often it
// is looked at: what was slow for less than an hour is not how things are.
func TestBecomesSlowByAndBy(t *testing.T) {
	for _, pause := range []time.Duration{0, 10 * ms, time.Second, 20 * time.Second} {
		t.Run(pause.String(), func(t *testing.T) {
			h := known()
			var v View
			for took := 4 * ms; took <= 4096*ms; took *= 2 {
				for began := h.now; h.now.Sub(began) < 2*time.Minute; {
					v = h.add(pause, took)
				}
			}
			require.True(t, v.Slow, "%s; 22 minutes ago 2 ms", v.Recent[Follower])
		})
	}
}

// TestBlindHourIsNoPast: what was measured while no round trip was known says nothing of the wire and the follower, however long it lasts.
func TestBlindHourIsNoPast(t *testing.T) {
	var c course
	now, blind := start, Times{Wire: unknown, Follower: unknown}
	add := func(n int, every time.Duration, took, usual Times) {
		for range n {
			begin := now
			now = now.Add(every)
			c.add(took, usual, begin, now)
		}
	}
	add(61*60*10/8, 800*ms, of(500*ms, 0, 300*ms), blind) // the queue is slow for more than an hour; the peer is 300 ms away
	usual := of(0, 300*ms, 0)                             // a probe was answered
	add(3, 800*ms, of(500*ms, 300*ms, 0), usual)
	add(20, 300*ms, of(0, 300*ms, 0), usual)
	require.Nil(t, Judge([]View{c.view(nil, usual, now, now, now)})[0])
}
