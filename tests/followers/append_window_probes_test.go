package followers_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// TestAppendWindowSkipsProbes: raft sends the same append with each heartbeat while it
// probes a follower. However long that takes on its way, it is queued once, unless it
// seems to be lost, or was rejected.
func TestAppendWindowSkipsProbes(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a := testmember.StartSimulated(t, n, 1, nil)
		b := testmember.StartSimulated(t, n, 2, nil)
		testmember.Connect(t, a, b)
		n.Link("m1", "m2").SetBandwidth(crowdedEntry / 2)
		c := &crowded{t: t, leader: a, follower: b}
		for range 15 {
			c.append(4, 5)
			time.Sleep(100 * time.Millisecond)
		}
		require.Equal(t, 1, c.lane().Queued, "no copy")
		require.EqualValues(t, 14, c.lane().Duplicates)
		c.requireArrive(5)

		before := a.Recorder.Unreachables(2)
		testmember.Within(t, 2*testmember.ReadTimeout, func() bool { // nobody answers
			c.append(4, 5)
			return c.arrivals(5) == 2
		})
		require.Equal(t, before+1, a.Recorder.Unreachables(2))

		c.append(5, 6)
		c.answer(4, true)
		c.append(4, 5)
		c.requireArrive(5, 5, 6, 5)

		c.answer(6, false)
		c.append(6, 7)
		c.append(6, 7)
		c.append(5, 6) // raft may have missed an answer: what was acknowledged is sent when it asks
		c.requireArrive(5, 5, 6, 5, 7, 6)
		require.Equal(t, before+1, a.Recorder.Unreachables(2))
	})
}
