package latency

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestQueueOfAnEarlierTerm: an append that waited long, and that nobody answers any more since its term is over, says that the queue
// is long, and nothing else. If the peer does not read, it does not say so.
func TestQueueOfAnEarlierTerm(t *testing.T) {
	for name, end := range map[string]func(a *Appends){
		"a heartbeat": func(a *Appends) { a.Sent(beat(3), time.Now()) },
		"an answer":   func(a *Appends) { a.Answered(answer(3, 20)) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, a *Appends, c *fakeConn) {
				a.Probed(ms)
				require.True(t, a.Begin(msgApp(2, 10, 1), 2*time.Second, c, time.Now()))
				time.Sleep(500 * ms)
				end(a)
				require.False(t, a.IsFollowing())
				require.Zero(t, count(a))
				_, v := a.Read(time.Now())
				require.Equal(t, [Parts]bool{Queue: true}, v.Over)
				require.Equal(t, Times{Queue: 2 * time.Second}, v.Recent)
				require.Equal(t, Queue, Judge([]View{v})[0].Part)

				require.True(t, a.Begin(msgApp(3, 11, 1), ms, c, time.Now()))
				a.Answered(answer(3, 12))
				_, v = a.Read(time.Now())
				require.True(t, v.Slow)
				for index := uint64(12); index < 11+over; index++ {
					require.True(t, a.Begin(msgApp(3, index, 1), ms, c, time.Now()))
					a.Answered(answer(3, index+1))
				}
				_, v = a.Read(time.Now())
				require.False(t, v.Slow)
			})
			inBubble(t, func(t *testing.T, a *Appends, c *fakeConn) {
				c.state.Shut = true
				require.True(t, a.Begin(msgApp(2, 10, 1), 2*time.Second, c, time.Now()))
				time.Sleep(500 * ms)
				end(a)
				_, v := a.Read(time.Now())
				require.False(t, v.Known)
			})
		})
	}
}

// TestQueueOfAnEarlierTermWhereNobodyTells: over HTTP/2, and in chunks, the system does not tell how far a write has got. The queue is known
// all the same, also of an append whose write has not returned; what did not wait long says nothing.
func TestQueueOfAnEarlierTermWhereNobodyTells(t *testing.T) {
	for name, known := range map[string]bool{"a connection": true, "HTTP/2": false} {
		for _, written := range []bool{true, false} {
			for _, waited := range []time.Duration{2 * time.Second, floor - 1} {
				t.Run(fmt.Sprint(name, written, waited), func(t *testing.T) {
					inBubble(t, func(t *testing.T, a *Appends, c *fakeConn) {
						c.known = known
						require.True(t, a.Begin(msgApp(2, 10, 1), waited, c, time.Now()))
						if written {
							a.Written(c, time.Now())
						}
						time.Sleep(2 * time.Second)
						a.Sent(beat(3), time.Now())
						require.False(t, a.IsFollowing())
						_, v := a.Read(time.Now())
						require.Equal(t, [Parts]bool{Queue: waited > lasts}, v.Over)
						if require.Equal(t, waited > lasts, v.Known); v.Known {
							require.Equal(t, waited, v.SlowFor, "what came after the queue says nothing")
						}
						a.Written(c, time.Now()) // the write of the append that is not followed any more
						require.True(t, a.Begin(msgApp(3, 11, 1), 0, c, time.Now()))
						a.Answered(answer(3, 12))
						require.Equal(t, 1, count(a))
					})
				})
			}
		}
	}
}

// TestQueueOfAnEarlierTermBesideASlowFollower: it says nothing of the follower, which is slow all the same, or is not.
func TestQueueOfAnEarlierTermBesideASlowFollower(t *testing.T) {
	inBubble(t, func(t *testing.T, a *Appends, c *fakeConn) {
		a.Probed(ms)
		index := uint64(10)
		follow := func(term uint64, took time.Duration) {
			index++
			require.True(t, a.Begin(msgApp(term, index, 1), 0, c, time.Now()))
			a.Written(c, time.Now())
			time.Sleep(took)
			a.Answered(answer(term, index+1))
		}
		for range 10 {
			follow(2, 110*ms)
		}
		_, before := a.Read(time.Now())
		require.Equal(t, [Parts]bool{Follower: true}, before.Over)
		for term := uint64(2); term < 5; term++ {
			index++
			require.True(t, a.Begin(msgApp(term, index, 1), 200*ms, c, time.Now()))
			a.Sent(beat(term+1), time.Now())
		}
		_, v := a.Read(time.Now())
		require.True(t, v.Over[Follower])
		require.Equal(t, before.Recent[Follower], v.Recent[Follower])
		require.Equal(t, before.Since[Follower], v.Since[Follower])
	})
}
