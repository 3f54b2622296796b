package followers_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// TestAppendsOvertakenByASnapshot: appends whose entries a snapshot has brought meanwhile do not hold up those behind it.
func TestAppendsOvertakenByASnapshot(t *testing.T) {
	ways := map[string]func(c *crowded, m *raftpb.Message){
		"with a database": func(c *crowded, m *raftpb.Message) {
			c.leader.SendSnapshot(snap.NewMessage(m, &testmember.Database{Reader: bytes.NewReader(make([]byte, 1000))}, 1000))
		},
		"by post": func(c *crowded, m *raftpb.Message) { c.leader.Send([]*raftpb.Message{m}) },
	}
	for way, send := range ways {
		deliver := func(c *crowded, m *raftpb.Message) {
			c.t.Helper()
			send(c, m)
			testmember.Within(c.t, 4*time.Second, func() bool { return len(c.leader.Recorder.SnapshotReports()) == 1 })
		}
		fills := map[string]func(c *crowded){
			"one by one": func(c *crowded) { c.append(0, crowdedQueue-1) },
			"at once": func(c *crowded) {
				var all []*raftpb.Message
				for i := range uint64(crowdedQueue - 1) {
					all = append(all, testmember.MsgApp(2, 1, i, make([]byte, crowdedEntry)))
				}
				c.leader.Send(all)
			},
		}
		for how, fill := range fills {
			t.Run(way+", queued "+how, func(t *testing.T) {
				testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
					c := crowdLine(t, n)
					fill(c)
					deliver(c, testmember.MsgSnap(2, 1, crowdedQueue-1))
					before := len(c.arrived())
					c.append(crowdedQueue-1, crowdedQueue)
					testmember.Within(t, 3*time.Second, func() bool { return c.arrivals(crowdedQueue) == 1 })
					require.LessOrEqual(t, len(c.arrived()), before+2, "more than what was being written, and the new one")
					require.EqualValues(t, crowdedQueue-len(c.arrived()), c.lane().Duplicates)
					require.Zero(t, c.lane().Dropped)
					testmember.Within(t, time.Second, func() bool { return c.lane().Queued == 0 })
				})
			})
		}
		crowdedTest(way+", but not those behind it", t, func(t *testing.T, c *crowded) {
			deliver(c, testmember.MsgSnap(2, 1, 6))
			testmember.Within(t, 9*time.Second, func() bool { return c.lane().Queued == 0 && c.arrivals(8) == 1 })
			require.Equal(t, 1, c.arrivals(7))
			require.Zero(t, c.arrivals(6))
		})
		crowdedTest(way+", but not those of a later term", t, func(t *testing.T, c *crowded) {
			m := testmember.MsgSnap(2, 1, 20)
			m.Term = new(uint64(0))
			deliver(c, m)
			c.requireArrive(1, 2, 3, 4, 5, 6, 7, 8)
		})
		crowdedTest(way+", but none of another group", t, func(t *testing.T, c *crowded) {
			m := testmember.MsgSnap(2, 1, 20)
			m.Context = []byte("a group")
			deliver(c, m)
			c.requireArrive(1, 2, 3, 4, 5, 6, 7, 8)
		})
		t.Run(way+", but no probe at its end", func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				c := crowdLine(t, n)
				c.append(0, 2)
				probe := testmember.MsgApp(2, 1, 20, nil)
				probe.Entries = nil
				c.leader.Send([]*raftpb.Message{probe})
				deliver(c, testmember.MsgSnap(2, 1, 20))
				testmember.Within(t, 4*time.Second, func() bool {
					for _, m := range c.follower.Recorder.Received() {
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

// TestAppendsOvertakenOnOtherWays: nor do appends that wait for the message stream, or for the pipeline, while their stream is down.
func TestAppendsOvertakenOnOtherWays(t *testing.T) {
	for way, refused := range map[string]string{"message": "/raft/stream/msgapp", "pipeline": "/raft/stream"} {
		t.Run(way, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				const queued = 12 // posts go four at a time
				a, b := testmember.StartSimulated(t, n, 1, nil), testmember.StartSimulated(t, n, 2, testmember.Receives(testmember.SavesAll))
				inner := a.Server.Handler
				a.Server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if strings.HasPrefix(r.URL.Path, refused) {
						http.NotFound(w, r)
						return
					}
					inner.ServeHTTP(w, r)
				})
				a.AddPeer(2, []string{b.URL})
				b.AddPeer(1, []string{a.URL})
				testmember.Within(t, time.Second, func() bool { return testmember.LaneOf(a, 2, way).Up })
				time.Sleep(time.Second)
				n.Link("m1", "m2").SetBandwidth(crowdedEntry)
				c := &crowded{t: t, leader: a, follower: b}
				c.append(0, queued)
				a.SendSnapshot(snap.NewMessage(testmember.MsgSnap(2, 1, queued), &testmember.Database{Reader: bytes.NewReader(make([]byte, 1000))}, 1000))
				testmember.Within(t, 10*time.Second, func() bool { return len(a.Recorder.SnapshotReports()) == 1 })
				require.Equal(t, []raft.SnapshotStatus{raft.SnapshotFinish}, a.Recorder.SnapshotReports())
				before := len(c.arrived())
				c.append(queued, queued+1)
				testmember.Within(t, 6*time.Second, func() bool { return c.arrivals(queued+1) == 1 })
				require.LessOrEqual(t, len(c.arrived()), before+5, "more than what was being written, and the new one")
				testmember.Within(t, 6*time.Second, func() bool { return testmember.LaneOf(a, 2, way).Queued == 0 })
				require.EqualValues(t, queued+1-len(c.arrived()), testmember.LaneOf(a, 2, way).Duplicates)
				require.NotZero(t, testmember.LaneOf(a, 2, way).Duplicates)
				require.Zero(t, testmember.LaneOf(a, 2, way).Dropped)
			})
		})
	}
}
