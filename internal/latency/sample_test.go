package latency

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/internal/socket"
)

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
		require.Equal(t, of(0, 7*ms, 293*ms), v.Recent)
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
				require.Equal(t, of(0, c.wire, c.took-c.wire), v.Recent)
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
		require.Equal(t, of(0, 300*ms, 1200*ms), v.Recent)
		require.True(t, v.Guessed)
	})
	inBubble(t, func(t *testing.T, a *Appends, c *fakeConn) { // an answer that is quicker than the return of the write
		require.True(t, a.Begin(msgApp(2, 10, 1), 0, c, time.Now()))
		a.Answered(answer(2, 11))
		_, v := a.Read(time.Now())
		require.False(t, v.Guessed)
	})
}
