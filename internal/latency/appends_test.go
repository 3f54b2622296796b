package latency

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/socket"
)

// fakeConn tells what a test says.
type fakeConn struct {
	state socket.SendState
	known bool
}

func (c *fakeConn) SendState() (socket.SendState, bool) { return c.state, c.known }

func msgApp(term, prev uint64, entries int) *raftpb.Message {
	m := &raftpb.Message{Type: new(raftpb.MsgApp), Term: new(term), Index: new(prev)}
	for range entries {
		m.Entries = append(m.Entries, &raftpb.Entry{})
	}
	return m
}

func answer(term, index uint64) *raftpb.Message {
	return &raftpb.Message{Type: new(raftpb.MsgAppResp), Term: new(term), Index: new(index)}
}

func rejection(term, index uint64) *raftpb.Message {
	m := answer(term, index)
	m.Reject = new(true)
	return m
}

func beat(term uint64) *raftpb.Message {
	return &raftpb.Message{Type: new(raftpb.MsgHeartbeat), Term: new(term)}
}

// inBubble runs f with the clock of a bubble.
func inBubble(t *testing.T, f func(t *testing.T, a *Appends, c *fakeConn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f(t, new(Appends), &fakeConn{known: true, state: socket.SendState{RTT: ms, Acked: 1000}})
	})
}

// recent returns how it is now.
func recent(a *Appends) Times {
	_, v := a.Read(time.Now())
	return v.Now
}

func count(a *Appends) int {
	all, _ := a.Read(time.Now())
	return int(all.Answer.Count)
}

// TestParts: what was measured is divided by what the system knows of the connection.
func TestParts(t *testing.T) {
	inBubble(t, func(t *testing.T, a *Appends, c *fakeConn) {
		c.state.Unacked = 100
		require.True(t, a.Begin(msgApp(2, 10, 3), 5*ms, c, time.Now()))
		time.Sleep(20 * ms) // the write
		a.Written(c, time.Now())
		time.Sleep(100 * ms)
		a.Sent(beat(2), time.Now()) // it is not acknowledged yet
		c.state.Acked, c.state.Unacked = 1100, 0
		time.Sleep(100 * ms)
		a.Sent(beat(2), time.Now()) // now it is
		time.Sleep(100 * ms)
		a.Answered(answer(2, 12))
		require.True(t, a.IsFollowing(), "that does not cover it")
		a.Answered(answer(2, 13))
		require.False(t, a.IsFollowing())
		require.Equal(t, of(5*ms, 120*ms-delayed, 200*ms+delayed), recent(a), "not acknowledged after 120 ms, which may be a delay of the peer's system")
	})
	inBubble(t, func(t *testing.T, a *Appends, c *fakeConn) { // it is acknowledged when it is looked at first
		require.True(t, a.Begin(msgApp(2, 10, 3), 0, c, time.Now()))
		a.Written(c, time.Now())
		time.Sleep(300 * ms)
		a.Answered(answer(2, 13))
		require.Equal(t, of(0, 1, 300*ms-1), recent(a))
	})
	inBubble(t, func(t *testing.T, a *Appends, c *fakeConn) { // the peer does not read
		c.state.Unacked, c.state.Unsent, c.state.Shut = 100, 100, true
		require.True(t, a.Begin(msgApp(2, 10, 3), 50*ms, c, time.Now()))
		time.Sleep(200 * ms)
		a.Written(c, time.Now())
		time.Sleep(100 * ms)
		a.Answered(answer(2, 13))
		require.Equal(t, of(0, ms, 349*ms), recent(a))
	})
	inBubble(t, func(t *testing.T, a *Appends, c *fakeConn) { // the system does not tell: it is the round trip of probes
		c.known = false
		a.Probed(7 * ms)
		require.True(t, a.Begin(msgApp(2, 10, 3), 0, c, time.Now()))
		a.Written(c, time.Now())
		time.Sleep(300 * ms)
		a.Answered(answer(2, 13))
		_, v := a.Read(time.Now())
		require.True(t, v.Guessed)
		require.Equal(t, of(0, 7*ms, 293*ms), v.Now)
	})
	inBubble(t, func(t *testing.T, a *Appends, _ *fakeConn) { // the answer is quicker than the return of the write
		require.True(t, a.Begin(msgApp(2, 10, 1), 0, nil, time.Now()))
		time.Sleep(2 * ms)
		a.Answered(answer(2, 11))
		a.Written(nil, time.Now())
		require.False(t, a.IsFollowing())
		require.Equal(t, 1, count(a))
	})
}

// TestWire: what counts as the wire, where the peer's system may delay acknowledgements.
func TestWire(t *testing.T) {
	near := socket.SendState{Acked: 1000, Unacked: 100, RTT: 41 * ms, MinRTT: ms / 10}
	far := socket.SendState{Acked: 1000, Unacked: 100, RTT: 300 * ms, MinRTT: 150 * ms}
	longer := socket.SendState{Acked: 1000, Unacked: 100, RTT: 300 * ms, MinRTT: ms}
	unsent := near
	unsent.Unsent = 1
	quick := socket.SendState{Acked: 1000, RTT: ms / 10, MinRTT: ms / 10}
	for name, c := range map[string]struct {
		state   socket.SendState
		probes  []time.Duration
		seen    time.Duration // it was looked at then
		took    time.Duration
		wire    time.Duration
		guessed bool
	}{
		"a delayed acknowledgement, seen with the answer": {near, nil, 0, 30 * ms, ms / 10, false},
		"a delayed acknowledgement, seen before":          {near, nil, 38 * ms, 39 * ms, ms / 10, false},
		"more than a delay":                               {near, nil, 200 * ms, 210 * ms, 200*ms - delayed, false},
		"not sent":                                        {unsent, nil, 200 * ms, 210 * ms, 200 * ms, false},
		"far":                                             {far, nil, 0, 310 * ms, 150 * ms, false},
		"farther than before":                             {longer, nil, 0, 310 * ms, 300*ms - delayed, false},
		"acknowledged by the peer":                        {quick, []time.Duration{ms}, 0, 200 * ms, 1, false},
		"acknowledged by the peer, whose probes take long": {quick, []time.Duration{4 * ms}, 0, 200 * ms, 1, false},
		"acknowledged by a proxy":                          {quick, []time.Duration{150 * ms}, 20 * ms, 155 * ms, 150 * ms, true},
		"a probe that took long":                           {quick, []time.Duration{150 * ms, ms, 200 * ms}, 0, 155 * ms, 1, false},
		"a proxy since a while":                            {quick, []time.Duration{ms, 150 * ms, 170 * ms, 180 * ms, 160 * ms}, 0, 155 * ms, 150 * ms, true},
		"a proxy, an answer that is quicker than probes":   {quick, []time.Duration{150 * ms}, 0, 100 * ms, 100 * ms, true},
		"the round trip is not known, acknowledged":        {socket.SendState{Acked: 1000}, []time.Duration{ms}, 20 * ms, 200 * ms, 1, false},
		"the round trip is not known, a proxy":             {socket.SendState{Acked: 1000}, []time.Duration{150 * ms}, 20 * ms, 200 * ms, 150 * ms, true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, a *Appends, conn *fakeConn) {
				conn.state = c.state
				for _, rtt := range c.probes {
					a.Probed(rtt)
				}
				require.True(t, a.Begin(msgApp(2, 10, 1), 0, conn, time.Now()))
				a.Written(conn, time.Now())
				if c.seen > 0 {
					time.Sleep(c.seen)
					a.Sent(beat(2), time.Now())
				}
				time.Sleep(c.took - c.seen)
				a.Answered(answer(2, 11))
				_, v := a.Read(time.Now())
				require.Equal(t, of(0, c.wire, c.took-c.wire), v.Now)
				require.Equal(t, c.guessed, v.Guessed)
			})
		})
	}
}

// TestPendingBehindAProxy: also what is not answered yet may be on the wire behind a proxy.
func TestPendingBehindAProxy(t *testing.T) {
	inBubble(t, func(t *testing.T, a *Appends, c *fakeConn) {
		a.Probed(300 * ms)
		require.True(t, a.Begin(msgApp(2, 10, 1), 0, c, time.Now()))
		a.Written(c, time.Now())
		for range 15 {
			time.Sleep(100 * ms)
			a.Sent(beat(2), time.Now())
		}
		_, v := a.Read(time.Now())
		require.Equal(t, of(0, 300*ms, 1200*ms), v.Now)
		require.True(t, v.Guessed)
	})
	inBubble(t, func(t *testing.T, a *Appends, c *fakeConn) { // an answer that is quicker than the return of the write
		require.True(t, a.Begin(msgApp(2, 10, 1), 0, c, time.Now()))
		a.Answered(answer(2, 11))
		_, v := a.Read(time.Now())
		require.False(t, v.Guessed)
	})
}

// TestWhatIsFollowed: one append at a time, with entries, none twice.
func TestWhatIsFollowed(t *testing.T) {
	inBubble(t, func(t *testing.T, a *Appends, c *fakeConn) {
		require.False(t, a.Begin(msgApp(2, 10, 0), 0, c, time.Now()), "it has no entries")
		require.True(t, a.Begin(msgApp(2, 10, 5), 0, c, time.Now()))
		require.False(t, a.Begin(msgApp(2, 15, 5), 0, c, time.Now()), "one at a time")
		a.Answered(answer(2, 15))
		require.False(t, a.Begin(msgApp(2, 10, 5), 0, c, time.Now()), "it is sent again")
		require.False(t, a.Begin(msgApp(1, 20, 5), 0, c, time.Now()), "it is of an old term")
		require.True(t, a.Begin(msgApp(2, 15, 1), 0, c, time.Now()))
		a.Restart() // the stream ended
		require.False(t, a.IsFollowing())
		require.True(t, a.Begin(msgApp(2, 10, 5), 0, c, time.Now()), "it is sent again over another stream")
		a.Answered(answer(2, 15))
		require.True(t, a.Begin(msgApp(3, 12, 1), 0, c, time.Now()), "it is of another leader")
		require.Equal(t, 2, count(a))
	})
}

// TestSentAgainFromEarlier: once the peer has rejected an append, or taken a snapshot, raft goes on from an earlier entry, and
// what it sends then is followed, also while the peer lags far behind.
func TestSentAgainFromEarlier(t *testing.T) {
	for name, back := range map[string]func(a *Appends){
		"rejected":             func(a *Appends) { a.Answered(rejection(2, 1000)) },
		"rejected when silent": func(a *Appends) { time.Sleep(2 * silence); a.Read(time.Now()); a.Answered(rejection(2, 1000)) },
		"a snapshot":           (*Appends).Restart,
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, a *Appends, c *fakeConn) {
				require.True(t, a.Begin(msgApp(2, 1000, 1), 0, c, time.Now()))
				a.Written(c, time.Now())
				back(a)
				require.True(t, a.Begin(msgApp(2, 10, 5), 0, c, time.Now()))
				for range 3 { // of copies of the first one, which raft has sent while it was not answered
					a.Answered(rejection(2, 1000))
					require.True(t, a.IsFollowing())
				}
				a.Answered(answer(2, 15))
				require.False(t, a.Begin(msgApp(2, 10, 5), 0, c, time.Now()), "that is a copy")
				a.Answered(rejection(1, 10))
				require.False(t, a.Begin(msgApp(2, 10, 5), 0, c, time.Now()), "a rejection of an old term says nothing")
				require.True(t, a.Begin(msgApp(2, 15, 5), 0, c, time.Now()))
				require.Equal(t, 1, count(a))
			})
		})
	}
}

// TestWhatEndsASampleWithoutAnAnswer: it says nothing of how long answers take.
func TestWhatEndsASampleWithoutAnAnswer(t *testing.T) {
	for name, end := range map[string]func(a *Appends){
		"a rejection before it":   func(a *Appends) { a.Answered(rejection(2, 9)) },
		"a rejection":             func(a *Appends) { a.Answered(rejection(2, 10)) },
		"an answer of a new term": func(a *Appends) { a.Answered(answer(3, 20)) },
		"a message of a new term": func(a *Appends) { a.Sent(beat(3), time.Now()) },
		"the end of the stream":   (*Appends).Restart,
		"a snapshot":              (*Appends).Restart,
		"nobody leads": func(a *Appends) {
			time.Sleep(silence + 1)
			a.Read(time.Now())
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, a *Appends, c *fakeConn) {
				require.True(t, a.Begin(msgApp(2, 10, 1), 0, c, time.Now()))
				a.Written(c, time.Now())
				end(a)
				require.False(t, a.IsFollowing())
				require.Zero(t, count(a))
				_, v := a.Read(time.Now())
				require.False(t, v.Known)
			})
		})
	}
	for name, m := range map[string]*raftpb.Message{
		"an answer of an old term":     answer(1, 20),
		"a rejection of an old term":   rejection(1, 20),
		"an answer to an earlier one":  answer(2, 10),
		"an answer to a later attempt": answer(0, 20),
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, a *Appends, c *fakeConn) {
				require.True(t, a.Begin(msgApp(2, 10, 1), 0, c, time.Now()))
				a.Answered(m)
				require.True(t, a.IsFollowing())
			})
		})
	}
}

// TestHeartbeatsOfReads: a heartbeat that confirms a read has a Context, and says that the local member leads, unless a group
// that has its appends marked with one shares the connection.
func TestHeartbeatsOfReads(t *testing.T) {
	read := beat(2)
	read.Context = []byte("8 bytes")
	marked := func(m *raftpb.Message) *raftpb.Message {
		m.Context = []byte("another group")
		return m
	}
	for name, c := range map[string]struct {
		before func(a *Appends)
		leads  bool
	}{
		"one group":                          {func(*Appends) {}, true},
		"a rejection of a read's group":      {func(a *Appends) { a.Answered(rejection(1, 3)) }, true},
		"another group's append is answered": {func(a *Appends) { a.Answered(marked(answer(7, 3))) }, false},
		"another group's append is rejected": {func(a *Appends) { a.Answered(marked(rejection(7, 3))) }, false},
		"another group's append is sent":     {func(a *Appends) { a.Sent(marked(msgApp(7, 1, 1)), time.Now()) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, a *Appends, c2 *fakeConn) {
				require.True(t, a.Begin(msgApp(2, 10, 1), 0, c2, time.Now()))
				a.Written(c2, time.Now())
				c.before(a)
				for range 50 {
					time.Sleep(100 * ms)
					a.Sent(read, time.Now())
				}
				all, v := a.Read(time.Now())
				require.Equal(t, c.leads, v.Slow)
				require.Equal(t, c.leads, all.Pending == 5*time.Second)
				require.Equal(t, c.leads, a.IsFollowing())
			})
		})
	}
}

// TestPendingWhileLeading: an append that is not answered is slow as long as the local member is known to lead; what another
// group sends does not tell.
func TestPendingWhileLeading(t *testing.T) {
	inBubble(t, func(t *testing.T, a *Appends, c *fakeConn) {
		other := answer(9, 1)
		other.Context = []byte("another group")
		a.Answered(other)
		require.True(t, a.Begin(msgApp(2, 10, 1), 0, c, time.Now()))
		a.Written(c, time.Now())
		for range 15 {
			time.Sleep(100 * ms)
			a.Sent(beat(2), time.Now())
		}
		all, v := a.Read(time.Now())
		require.Equal(t, 1500*ms, all.Pending)
		require.True(t, v.Slow)
		require.Equal(t, Follower, v.Now.largest())
		time.Sleep(time.Second)
		other = beat(9)
		other.Context = []byte("another group")
		a.Sent(other, time.Now())
		all, _ = a.Read(time.Now())
		require.Equal(t, 1500*ms, all.Pending, "when it led last")
		time.Sleep(silence)
		all, v = a.Read(time.Now())
		require.Zero(t, all.Pending)
		require.False(t, v.Slow)
	})
}

// TestWriteThatFails: it ends its own sample, and no other; and what is written without an end is not followed for ever.
func TestWriteThatFails(t *testing.T) {
	inBubble(t, func(t *testing.T, a *Appends, c *fakeConn) {
		require.True(t, a.Begin(msgApp(2, 10, 1), 0, c, time.Now()))
		a.Failed(&fakeConn{})
		require.True(t, a.IsFollowing())
		a.Failed(c)
		require.False(t, a.IsFollowing())
		require.True(t, a.Begin(msgApp(2, 10, 1), 0, c, time.Now()), "it is sent again")
		a.Restart()
		newer := &fakeConn{}
		require.True(t, a.Begin(msgApp(2, 10, 1), 0, newer, time.Now()))
		time.Sleep(2 * time.Second)
		a.Written(c, time.Now()) // of the sample before
		a.Sent(beat(2), time.Now())
		all, _ := a.Read(time.Now())
		require.Equal(t, 2*time.Second, all.Pending)
		require.Equal(t, of(0, 2*time.Second, 0), recent(a), "it is not written")
		a.Failed(c)
		require.True(t, a.IsFollowing())
		time.Sleep(silence + 1)
		all, _ = a.Read(time.Now())
		require.Zero(t, all.Pending, "nobody leads")
		require.False(t, a.IsFollowing())
	})
}

// TestMovedForgetsThePast: a peer at another URL is another machine.
func TestMovedForgetsThePast(t *testing.T) {
	inBubble(t, func(t *testing.T, a *Appends, c *fakeConn) {
		for i := range 20 {
			require.True(t, a.Begin(msgApp(2, uint64(i), 1), 0, c, time.Now()))
			time.Sleep(2 * ms)
			a.Answered(answer(2, uint64(i+1)))
		}
		a.Moved()
		_, v := a.Read(time.Now())
		require.False(t, v.Known)
		require.Equal(t, 20, count(a), "what was counted stays")
	})
}

// TestSamplesAllocateNothing: once there was one.
func TestSamplesAllocateNothing(t *testing.T) {
	var a Appends
	var in Arrivals
	c := &fakeConn{known: true, state: socket.SendState{Acked: 1}}
	m, resp, index := msgApp(2, 0, 1), answer(2, 0), uint64(0)
	round := func() {
		index++
		*m.Index, *resp.Index = index-1, index
		now := time.Now()
		if !a.Begin(m, ms, c, now) {
			panic("not followed")
		}
		a.Sent(m, now)
		a.Written(c, now)
		a.Answered(resp)
		in.Processed(ms, ms, 1, now)
	}
	round()
	require.Zero(t, testing.AllocsPerRun(100, round))
}

// BenchmarkNotFollowed is what a write and an answer cost that are not of the append that is followed.
func BenchmarkNotFollowed(b *testing.B) {
	var a Appends
	a.Begin(msgApp(2, 1<<40, 1), 0, nil, time.Now())
	resp := answer(2, 1)
	for b.Loop() {
		if a.IsFollowing() {
			a.Answered(resp)
		}
	}
}
