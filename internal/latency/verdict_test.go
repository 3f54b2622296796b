package latency

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const ms = time.Millisecond

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// of returns the times on the way to a peer.
func of(queue, wire, follower time.Duration) Times {
	return Times{Queue: queue, Wire: wire, Follower: follower}
}

// played returns how it is after n samples that took past, one each 100 ms, and then slow ones for d.
func played(n int, past, slow Times, d time.Duration) View {
	var c course
	now := start
	for range n {
		now = now.Add(100 * ms)
		c.add(past, Times{}, now.Add(-past.Total()), now)
	}
	for end := now.Add(d); now.Add(slow.Total()).Before(end); {
		begin := now
		now = now.Add(max(slow.Total(), 100*ms))
		c.add(slow, Times{}, begin, now)
	}
	return c.view(nil, Times{}, now, now, now)
}

func TestJudge(t *testing.T) {
	well := played(100, of(0, ms, 2*ms), of(0, ms, 2*ms), 0)
	far := played(100, of(0, 150*ms, 2*ms), of(0, 150*ms, 2*ms), time.Second)
	for name, c := range map[string]struct {
		to   []View
		want string // the part of the first; empty: no verdict
	}{
		"nothing is known":                     {[]View{{}, {}}, ""},
		"all are well":                         {[]View{well, well, well}, ""},
		"a slow disk":                          {[]View{played(100, of(0, ms, 2*ms), of(0, ms, 209*ms), 3*time.Second), well, well}, "follower"},
		"a slow disk, of two members":          {[]View{played(100, of(0, ms, 2*ms), of(0, ms, 209*ms), 3*time.Second)}, "follower"},
		"a slow disk from the start":           {[]View{played(0, Times{}, of(0, ms, 209*ms), 3*time.Second), well}, "follower"},
		"a slow line":                          {[]View{played(100, of(0, ms, 2*ms), of(0, 300*ms, 2*ms), 3*time.Second), well}, "wire"},
		"a full queue":                         {[]View{played(100, of(0, ms, 2*ms), of(900*ms, 300*ms, 2*ms), 3*time.Second), well}, "queue"},
		"the others are as slow":               {[]View{played(100, of(0, ms, 2*ms), of(0, ms, 209*ms), 3*time.Second), played(100, of(0, ms, 2*ms), of(0, ms, 160*ms), 3*time.Second)}, ""},
		"one of the others is as slow":         {[]View{played(100, of(0, ms, 2*ms), of(0, ms, 209*ms), 3*time.Second), well, played(100, of(0, ms, 2*ms), of(0, ms, 160*ms), 3*time.Second)}, "follower"},
		"not for long":                         {[]View{played(100, of(0, ms, 2*ms), of(0, ms, 209*ms), 700*ms), well}, ""},
		"slow against the others, but no more": {[]View{played(100, of(0, ms, 60*ms), of(0, ms, 209*ms), 3*time.Second), well}, ""},
		"a far peer":                           {[]View{far, well}, ""},
		"a far peer whose line is slow":        {[]View{played(100, of(0, 150*ms, 2*ms), of(0, 700*ms, 2*ms), 3*time.Second), well}, "wire"},
		"well under what matters":              {[]View{played(100, of(0, ms, 2*ms), of(0, ms, 90*ms), 3*time.Second), well}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "a far peer" { // as long as nothing is known, the round trip of the line is what is usual
				c.to[0] = View{Known: true, Recent: of(0, 150*ms, 2*ms)}
			}
			got := Judge(c.to)
			require.Len(t, got, len(c.to))
			if c.want == "" {
				require.Nil(t, got[0])
				return
			}
			require.NotNil(t, got[0])
			require.Equal(t, c.want, got[0].Part.String())
			for _, p := range got[1:] {
				if p != nil {
					require.Equal(t, c.want, p.Part.String())
				}
			}
		})
	}
}

// TestTextOfVerdicts: as the issue has it.
func TestTextOfVerdicts(t *testing.T) {
	slow := func(p Part, now Times) View {
		v := View{Known: true, Slow: true, Recent: now, Longer: now}
		v.Over[p] = true
		return v
	}
	say := func(p Part, now Times, guessed bool) string {
		v := slow(p, now)
		v.Guessed = guessed
		return Judge([]View{v})[0].Text
	}
	require.Equal(t, "answers appends after 210 ms, 190 ms of it at the follower: its disk, or its Ready loop", say(Follower, of(4*ms, 17*ms, 190*ms), false))
	require.Contains(t, say(Follower, of(4*ms, 17*ms, 190*ms), true), "perhaps the wire")
	require.Contains(t, say(Wire, of(0, 1234*ms, 2*ms), false), "answers appends after 1.2 s, 1.2 s of it on the wire")
	require.Contains(t, say(Queue, of(12*time.Second, 0, 0), false), "its appends take 12 s, 12 s of it in the send queue")
	require.Contains(t, Own(slow(Receive, Times{Receive: time.Second})).Text, "1 s of it in the receive queue")
	require.Contains(t, Own(slow(Process, Times{Process: time.Second})).Text, "1 s of it in Process")
	require.Nil(t, Own(View{Recent: Times{Process: time.Second}}))
	for d, want := range map[time.Duration]string{0: "0 ms", 99 * ms: "99 ms", 214 * ms: "210 ms", 996 * ms: "1000 ms", 1500 * ms: "1.5 s", 123 * time.Second: "120 s"} {
		require.Equal(t, want, short(d))
	}
}

// TestUsualUntilThePastIsKnown: a peer that is far away is not slow because of that.
func TestUsualUntilThePastIsKnown(t *testing.T) {
	var c course
	far, usual := of(0, 160*ms, 2*ms), of(0, 150*ms, 0)
	for i := range 100 {
		begin := start.Add(time.Duration(i) * 200 * ms)
		c.add(far, usual, begin, begin.Add(162*ms))
	}
	now := start.Add(20 * time.Second)
	require.False(t, c.view(nil, usual, now, now, now).Slow)
	require.True(t, c.view(nil, usual, now, now, now).Known)
	require.False(t, c.view(nil, usual, now, now, now.Add(2*fresh)).Known, "nothing came for a while")
}

// TestRunOfSlowSamples: it ends with three in a row that are not, and begins anew after a pause; the past is not of slow samples.
func TestRunOfSlowSamples(t *testing.T) {
	var c course
	now := start
	sample := func(d time.Duration) View {
		begin := now
		now = now.Add(max(d, 100*ms))
		c.add(of(0, 0, d), Times{}, begin, now)
		return c.view(nil, Times{}, now, now, now)
	}
	for range 20 {
		require.False(t, sample(2*ms).Slow)
	}
	past := c.past.mean
	require.False(t, sample(600*ms).Slow)
	require.True(t, sample(600*ms).Slow)
	require.True(t, sample(2*ms).Slow)
	require.True(t, sample(2*ms).Slow)
	require.True(t, sample(600*ms).Slow)
	for range over {
		sample(2 * ms)
	}
	require.False(t, sample(2*ms).Slow)
	require.Equal(t, past, c.past.mean)
	require.False(t, sample(600*ms).Slow)
	now = now.Add(2 * fresh)
	require.False(t, sample(600*ms).Slow, "it is another run")

	pending := of(0, 0, 2*time.Second)
	require.True(t, c.view(&pending, Times{}, now, now.Add(2*time.Second), now.Add(2*time.Second)).Slow, "what is not answered yet counts")
}

// TestSlowPartBehindALargerOne: a part that has become slow is named also if another part, which has always taken so long, takes
// longer.
func TestSlowPartBehindALargerOne(t *testing.T) {
	var c course
	now, usual := start, of(0, 300*ms, 0) // a round trip over an ocean
	add := func(n int, took Times) View {
		for range n {
			begin := now
			now = now.Add(took.Total())
			c.add(took, usual, begin, now)
		}
		return c.view(nil, usual, now, now, now)
	}
	require.False(t, add(100, of(0, 300*ms, 2*ms)).Slow)
	well := add(0, Times{})
	v := add(100, of(0, 300*ms, 250*ms))
	require.True(t, v.Slow, "the follower takes 125 times as long as before, and as others")
	got := Judge([]View{v, well})
	require.NotNil(t, got[0])
	require.Equal(t, Follower, got[0].Part)
}

// TestNearPeerBesideAFarOne: a peer whose line has become slow is named also if the other one has always been far away: that one is
// not slow, so the cause is not here.
func TestNearPeerBesideAFarOne(t *testing.T) {
	after := func(past, now Times) View {
		var c course
		at, usual := start, Times{Wire: past[Wire]}
		for i := range 200 {
			took := past
			if i >= 100 {
				took = now
			}
			begin := at
			at = at.Add(took.Total())
			c.add(took, usual, begin, at)
		}
		return c.view(nil, usual, at, at, at)
	}
	far := after(of(0, 300*ms, 2*ms), of(0, 300*ms, 2*ms))
	require.False(t, far.Slow)
	near := after(of(0, ms, 2*ms), of(0, 1000*ms, 2*ms))
	require.True(t, near.Slow)
	got := Judge([]View{near, far})
	require.Nil(t, got[1])
	require.NotNil(t, got[0], "its round trip is a second, and was a millisecond")

	near, far = after(of(0, ms, 2*ms), of(0, 251*ms, 2*ms)), after(of(0, 300*ms, 2*ms), of(0, 550*ms, 2*ms))
	require.True(t, near.Slow)
	require.False(t, far.Slow)
	require.Nil(t, Judge([]View{near, far})[0], "it takes longer by as much to the far one: the cause is here")
	far = after(of(0, 300*ms, 60*ms), of(0, 300*ms, 60*ms))
	require.False(t, far.New)
	near = played(0, Times{}, of(0, 2*ms, 200*ms), 1500*ms)
	require.True(t, near.New)
	require.True(t, near.Slow)
	require.Nil(t, Judge([]View{near, far})[0], "nobody knows what it was before: it is not four times as slow as the other")
}

// TestNoRoundTripIsKnown: a peer is not slow on the wire, nor itself, as long as it may be far away; its queue can be. What was measured
// then is no past.
func TestNoRoundTripIsKnown(t *testing.T) {
	var c course
	now, blind := start, Times{Wire: unknown, Follower: unknown}
	add := func(n int, took, usual Times) View {
		for range n {
			begin := now
			now = now.Add(took.Total())
			c.add(took, usual, begin, now)
		}
		return c.view(nil, usual, now, now, now)
	}
	v := add(20, of(0, 0, 300*ms), blind)
	require.False(t, v.Slow)
	require.True(t, v.Blind)
	require.Equal(t, of(0, 0, 300*ms), v.Recent)
	v = add(5, of(600*ms, 0, 300*ms), blind)
	require.Equal(t, [Parts]bool{Queue: true}, v.Over)
	usual := of(0, 300*ms, 0)
	require.Equal(t, [Parts]bool{Queue: true}, c.view(nil, usual, now, now, now).Over, "those samples tell nothing of other parts")
	require.False(t, add(20, of(0, 300*ms, 0), usual).Slow)

	well := View{Known: true, Blind: true, New: true, Recent: of(0, 0, 300*ms)}
	got := Judge([]View{played(0, Times{}, of(0, 0, 300*ms), 3*time.Second), well})
	require.NotNil(t, got[0], "what the other one's follower takes is not known")
}

// TestSinceWhenAPartIsSlow: the verdict on a part says since when that part is slow, and not since when another one has been, of which
// there was a verdict before.
func TestSinceWhenAPartIsSlow(t *testing.T) {
	var c course
	now := start
	add := func(n int, took Times) *Verdict {
		for range n {
			begin := now
			now = now.Add(took.Total())
			c.add(took, Times{}, begin, now)
		}
		return Judge([]View{c.view(nil, Times{}, now, now, now)})[0]
	}
	require.Nil(t, add(100, of(0, ms, 2*ms)))
	wire := now
	for range 3 {
		v := add(100, of(0, 500*ms, 2*ms))
		require.Equal(t, Wire, v.Part)
		require.Equal(t, wire, v.Since)

		follower := now
		for range 3 {
			v = add(30, of(0, 500*ms, 900*ms))
			require.Equal(t, Follower, v.Part)
			require.Equal(t, follower, v.Since)
		}
		v = add(30, of(0, 500*ms, 2*ms))
		require.Equal(t, Wire, v.Part)
		require.Equal(t, wire, v.Since)
	}
	add(1, of(0, 500*ms, 200*ms)) // one does not begin it
	add(30, of(0, 500*ms, 2*ms))
	follower := now
	require.Equal(t, follower, add(30, of(0, 2*ms, 900*ms)).Since)

	require.Nil(t, add(over, of(0, ms, 2*ms)))
	again := now
	require.Equal(t, again, add(30, of(0, 500*ms, 2*ms)).Since)
}
