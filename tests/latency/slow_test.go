package latency_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
)

// fault is why a follower is slow.
type fault struct {
	name   string
	inject func(c *cluster)
	size   int // of the entries, of which 50 come in a second
	part   string
	first  string // the part that may be named while it begins
}

var faults = []fault{
	{"slow disk", func(c *cluster) { c.nodes[slow].fsync.Store(int64(2 * time.Second)) }, 100, "follower", ""},
	{"slow disk of 190 ms", func(c *cluster) { c.nodes[slow].fsync.Store(int64(190 * time.Millisecond)) }, 100, "follower", ""},
	{"slow line", func(c *cluster) {
		for _, id := range []uint64{leader, healthy} {
			c.Link(id, slow).SetDelay(150 * time.Millisecond)
			c.Link(slow, id).SetDelay(150 * time.Millisecond)
		}
	}, 100, "wire", ""},
	{"full queue", func(c *cluster) {
		for _, id := range []uint64{leader, healthy} {
			c.Link(id, slow).SetBandwidth(1 << 20)
		}
	}, 100 << 10, "queue", "wire"}, // which is too narrow, until there is a queue
	{"busy receiver", func(c *cluster) { c.nodes[slow].process.Store(int64(200 * time.Millisecond)) }, 100, "follower", ""},
	{"receiver that does not read", func(c *cluster) { c.nodes[slow].process.Store(int64(2 * time.Second)) }, weigh(200 << 10), "follower", ""},
}

// weigh is n bytes, or a quarter with the race detector, which looks at each byte that is copied; tools/test runs these tests
// without it as well.
func weigh(n int) int {
	if raceEnabled {
		return n / 4
	}
	return n
}

// TestSlowFollowerIsNamed: within 3 s after a fault the leader names the peer, and the part that is slow, and nobody else is
// accused; a while after the fault nobody is.
func TestSlowFollowerIsNamed(t *testing.T) {
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				c := start(t, time.Millisecond, 2*time.Millisecond, func(_ uint64, tr *rafthttp.Transport) { tr.ReceiveQueueBytes = int64(weigh(1 << 20)) })
				c.load(t, f.size, 50)
				time.Sleep(20 * time.Second)
				for _, id := range []uint64{healthy, slow} {
					require.Nil(t, c.peer(t, leader, id).Appends.Slow, "before the fault: %d", id)
				}
				f.inject(c)
				time.Sleep(3 * time.Second)
				a := c.peer(t, leader, slow).Appends
				require.NotNil(t, a.Slow, "pending %s", a.Pending)
				t.Log(a.Slow.Text)
				require.Equal(t, f.part, a.Slow.Part, a.Slow.Text)
				require.WithinRange(t, a.Slow.Since, time.Now().Add(-5*time.Second), time.Now())
				require.Nil(t, c.peer(t, leader, healthy).Appends.Slow)
			})
		})
	}
}

// TestSlowFollowerOfANewLeader: while a follower is slow the other two take turns as the leader. The new one names the follower
// and the part within 3 s, and nobody else is accused by anyone meanwhile. With the race detector, which looks at each byte, the
// faults that need large entries are left to TestSlowFollowerIsNamed; tools/test runs all of them without it.
func TestSlowFollowerOfANewLeader(t *testing.T) {
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			if raceEnabled && f.size > 10<<10 {
				t.Skip("is run without the race detector")
			}
			bubble.Test(t, func(t *testing.T) {
				c := start(t, time.Millisecond, 2*time.Millisecond, func(_ uint64, tr *rafthttp.Transport) { tr.ReceiveQueueBytes = int64(weigh(1 << 20)) })
				c.load(t, f.size, 50)
				time.Sleep(20 * time.Second)
				f.inject(c)
				c.watch(t, f, 3*time.Second)
				for range 2 {
					for _, id := range []uint64{healthy, leader} {
						c.elect(t, id)
						c.watch(t, f, 3*time.Second)
						a := c.peer(t, id, slow).Appends
						require.NotNil(t, a.Slow, "at %d: %+v", id, a)
						require.Equal(t, f.part, a.Slow.Part, a.Slow.Text)
					}
				}
			})
		})
	}
}

// watch looks for so long whether anybody is accused who is not slow, or of something else.
func (c *cluster) watch(t *testing.T, f fault, d time.Duration) {
	t.Helper()
	for began := time.Now(); time.Since(began) < d; time.Sleep(50 * time.Millisecond) {
		for _, n := range c.nodes[1:] {
			for _, p := range n.member.Status().Peers {
				switch s := p.Appends.Slow; {
				case s == nil:
				case n.id == slow: // it may know that it is
					require.Contains(t, []string{"receive", "process"}, s.Part, s.Text)
				default:
					require.EqualValues(t, slow, p.ID, "at %d: %s", n.id, s.Text)
					require.Contains(t, []string{f.part, f.first}, s.Part, "at %d: %s", n.id, s.Text)
				}
			}
		}
	}
}

// TestBusyReceiverKnows: a member whose Process is slow says so itself.
func TestBusyReceiverKnows(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := start(t, time.Millisecond, 2*time.Millisecond, nil)
		c.load(t, 100, 50)
		time.Sleep(20 * time.Second)
		a := c.peer(t, slow, leader).Appends
		require.Nil(t, a.Slow)
		require.NotZero(t, a.Receive.Count)
		require.NotZero(t, a.Process.Count)
		require.NotZero(t, a.Process.P50)
		c.nodes[slow].process.Store(int64(2 * time.Second))
		time.Sleep(3 * time.Second)
		s := c.peer(t, slow, leader).Appends.Slow
		require.NotNil(t, s)
		t.Log(s.Text)
		require.Contains(t, []string{"process", "receive"}, s.Part)
	})
}

// TestVerdictEnds: what was slow, and is not any more, is not said for long.
func TestVerdictEnds(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := start(t, time.Millisecond, 2*time.Millisecond, nil)
		c.load(t, 100, 50)
		time.Sleep(10 * time.Second)
		c.nodes[slow].fsync.Store(int64(500 * time.Millisecond))
		time.Sleep(time.Minute)
		a := c.peer(t, leader, slow).Appends
		require.NotNil(t, a.Slow, "also after a minute")
		require.Greater(t, a.Answer.P50, 400*time.Millisecond)
		require.Greater(t, a.Follower.P99, 400*time.Millisecond)
		require.Less(t, a.Wire.P99, 20*time.Millisecond)
		c.nodes[slow].fsync.Store(int64(2 * time.Millisecond))
		time.Sleep(5 * time.Second)
		require.Nil(t, c.peer(t, leader, slow).Appends.Slow)
	})
}

// TestSlowDiskBehindALongLine: a slow disk is named also at members whose round trip takes longer than the disk.
func TestSlowDiskBehindALongLine(t *testing.T) {
	for _, rtt := range []time.Duration{20 * time.Millisecond, 300 * time.Millisecond} {
		t.Run(rtt.String(), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				c := start(t, 20*time.Millisecond, 2*time.Millisecond, nil)
				for from := uint64(1); from <= members; from++ {
					for to := uint64(1); to <= members; to++ {
						c.Link(from, to).SetDelay(rtt / 2) // before the first probe, and after the election
					}
				}
				c.load(t, 100, 50)
				time.Sleep(20 * time.Second)
				require.Nil(t, c.peer(t, leader, slow).Appends.Slow)
				c.nodes[slow].fsync.Store(int64(120 * time.Millisecond))
				time.Sleep(20 * time.Second)
				a := c.peer(t, leader, slow).Appends
				require.NotNil(t, a.Slow, "recent: %+v", a.Recent)
				require.Equal(t, "follower", a.Slow.Part)
			})
		})
	}
}
