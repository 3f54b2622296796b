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
	return v.Recent
}

func count(a *Appends) int {
	all, _ := a.Read(time.Now())
	return int(all.Answer.Count)
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
		require.Equal(t, [Parts]bool{Follower: true}, v.Over)
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
		newer := &fakeConn{known: true}
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
		c.state.MinRTT, c.state.RTT = 150*ms, 150*ms
		require.True(t, a.Begin(msgApp(2, 20, 1), 0, c, time.Now()))
		a.Written(c, time.Now())
		a.Moved()
		time.Sleep(300 * ms)
		a.Answered(answer(2, 21))
		_, v := a.Read(time.Now())
		require.False(t, v.Known, "not even by an append that was on its way")
		require.Zero(t, a.least)
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

// TestStandstillOfTheLeader: an append during which the local member stood still, such as in a suspended machine, says nothing,
// whoever notices that first.
func TestStandstillOfTheLeader(t *testing.T) {
	for name, after := range map[string]func(a *Appends, c *fakeConn){
		"Status":      func(a *Appends, _ *fakeConn) { a.Read(time.Now()) },
		"the answer":  func(*Appends, *fakeConn) {},
		"a heartbeat": func(a *Appends, _ *fakeConn) { a.Sent(beat(2), time.Now()) },
		"the write":   func(a *Appends, c *fakeConn) { a.Written(c, time.Now()) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, a *Appends, c *fakeConn) {
				require.True(t, a.Begin(msgApp(2, 10, 1), 0, c, time.Now()))
				if name != "the write" {
					a.Written(c, time.Now())
				}
				time.Sleep(time.Minute)
				after(a, c)
				a.Answered(answer(2, 11))
				require.Zero(t, count(a))
				_, v := a.Read(time.Now())
				require.False(t, v.Known)
			})
		})
	}
}

// TestProbesTellOfAProxy: the first probe is enough, since a far peer behind a near proxy is called slow until then; a quick one
// refutes those that were late because somebody was busy, for as long as it is one of the last four.
func TestProbesTellOfAProxy(t *testing.T) {
	var p probes
	guessed := func() bool { _, guessed := p.correct(ms, ms); return guessed }
	require.False(t, guessed(), "nothing is known")
	p.add(50 * ms)
	require.True(t, guessed())
	p.add(2 * ms)
	for range recentProbes - 1 {
		require.False(t, guessed(), "after %d", p.n)
		p.add(50 * ms)
	}
	require.False(t, guessed())
	p.add(50 * ms)
	require.True(t, guessed(), "it was long ago")
}
