package delivery_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// TestControlMessagesGoFirst: on a line that proposals fill twice, or appends without a
// stream of their own, every answer to a heartbeat arrives, and soon. Nor do
// proposals and appends wait for each other.
func TestControlMessagesGoFirst(t *testing.T) {
	testmember.SkipWithTinyBuffers(t)
	const line, size = 10 << 18, 64 << 10 // a second of it is 40 messages
	data := make([]byte, size)
	bulk := map[string]func(i uint64) *raftpb.Message{
		"proposals": func(uint64) *raftpb.Message {
			return &raftpb.Message{
				Type: raftpb.MsgProp.Enum(), To: new(uint64(2)), From: new(uint64(1)),
				Entries: []*raftpb.Entry{{Data: data}},
			}
		},
		"appends": func(i uint64) *raftpb.Message {
			m := testmember.MsgApp(2, 1, i, data)
			m.Context = []byte("one of several groups, whose appends are all queued")
			return m
		},
	}
	other := map[string]string{"proposals": "appends", "appends": "proposals"}
	for name, flood := range bulk {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) { tr.SendQueueBytes = 8 << 18 })
				a.AddPeer(2, testmember.SilentHost(n, 2))
				got := testmember.ReadArrivals(t, testmember.DialStream(t, n.Host("m2").DialContext, a, "message", 2))
				testmember.Within(t, time.Second, func() bool { return testmember.LaneOf(a, 2, "message").Up })
				n.Link("m1", "m2").SetBandwidth(line)

				const answers = 100
				sent := make([]time.Time, answers)
				var index uint64
				for i := range answers { // 10 s
					for range 2 * line / 10 / size {
						a.Send([]*raftpb.Message{flood(index)})
						index++
					}
					m := testmember.Message(raftpb.MsgHeartbeatResp, 2)
					m.Commit = new(uint64(i))
					a.Send([]*raftpb.Message{m})
					if sent[i] = time.Now(); i%40 == 10 {
						a.Send([]*raftpb.Message{bulk[other[name]](0)})
					}
					time.Sleep(100 * time.Millisecond)
				}
				time.Sleep(time.Second)
				require.NotZero(t, testmember.LaneOf(a, 2, "message").Drops.QueueFull, "the line is full")
				for i := range sent {
					at, ok := got.Heartbeat(uint64(i))
					require.True(t, ok, "answer %d of %d", i, answers)
					require.LessOrEqual(t, at.Sub(sent[i]), 250*time.Millisecond, "answer %d", i)
				}
				require.Equal(t, 3, got.Of(bulk[other[name]](0).GetType()), "the other kind has a queue of its own")
			})
		})
	}
}
