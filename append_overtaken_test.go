package rafthttp_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// TestAppendsOvertakenByASnapshot: appends whose entries a snapshot has brought meanwhile do not hold up those behind it.
func TestAppendsOvertakenByASnapshot(t *testing.T) {
	ways := map[string]func(c *crowded, m *raftpb.Message){
		"with a database": func(c *crowded, m *raftpb.Message) {
			c.leader.SendSnapshot(snap.NewMessage(m, &database{Reader: bytes.NewReader(make([]byte, 1000))}, 1000))
		},
		"by post": func(c *crowded, m *raftpb.Message) { c.leader.Send([]*raftpb.Message{m}) },
	}
	for way, send := range ways {
		deliver := func(c *crowded, m *raftpb.Message) {
			c.t.Helper()
			send(c, m)
			within(c.t, 4*time.Second, func() bool { return len(c.leader.raft.snapshotReports()) == 1 })
		}
		fills := map[string]func(c *crowded){
			"one by one": func(c *crowded) { c.append(0, crowdedQueue-1) },
			"at once": func(c *crowded) {
				var all []*raftpb.Message
				for i := range uint64(crowdedQueue - 1) {
					all = append(all, msgApp(2, 1, i, make([]byte, crowdedEntry)))
				}
				c.leader.Send(all)
			},
		}
		for how, fill := range fills {
			t.Run(way+", queued "+how, func(t *testing.T) {
				simulate(t, func(t *testing.T, n *memnet.Network) {
					c := crowdLine(t, n)
					fill(c)
					deliver(c, msgSnap(2, 1, crowdedQueue-1))
					before := len(c.arrived())
					c.append(crowdedQueue-1, crowdedQueue)
					within(t, 3*time.Second, func() bool { return c.arrivals(crowdedQueue) == 1 })
					require.LessOrEqual(t, len(c.arrived()), before+2, "more than what was being written, and the new one")
					require.EqualValues(t, crowdedQueue-len(c.arrived()), c.lane().Duplicates)
					require.Zero(t, c.lane().Dropped)
					within(t, time.Second, func() bool { return c.lane().Queued == 0 })
				})
			})
		}
		crowdedTest(way+", but not those behind it", t, func(t *testing.T, c *crowded) {
			deliver(c, msgSnap(2, 1, 6))
			within(t, 9*time.Second, func() bool { return c.lane().Queued == 0 && c.arrivals(8) == 1 })
			require.Equal(t, 1, c.arrivals(7))
			require.Zero(t, c.arrivals(6))
		})
		crowdedTest(way+", but not those of a later term", t, func(t *testing.T, c *crowded) {
			m := msgSnap(2, 1, 20)
			m.Term = new(uint64(0))
			deliver(c, m)
			c.requireArrive(1, 2, 3, 4, 5, 6, 7, 8)
		})
		crowdedTest(way+", but none of another group", t, func(t *testing.T, c *crowded) {
			m := msgSnap(2, 1, 20)
			m.Context = []byte("a group")
			deliver(c, m)
			c.requireArrive(1, 2, 3, 4, 5, 6, 7, 8)
		})
		t.Run(way+", but no probe at its end", func(t *testing.T) {
			simulate(t, func(t *testing.T, n *memnet.Network) {
				c := crowdLine(t, n)
				c.append(0, 2)
				probe := msgApp(2, 1, 20, nil)
				probe.Entries = nil
				c.leader.Send([]*raftpb.Message{probe})
				deliver(c, msgSnap(2, 1, 20))
				within(t, 4*time.Second, func() bool {
					for _, m := range c.follower.raft.received() {
						if m.GetType() == raftpb.MsgApp && m.GetIndex() == 20 {
							return true
						}
					}
					return false
				})
			})
		})
	}
}
