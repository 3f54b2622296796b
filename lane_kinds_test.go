package rafthttp_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// TestControlMessagesGoFirst: on a line that proposals fill twice, or appends without a
// stream of their own, every answer to a heartbeat arrives, and soon. Nor do
// proposals and appends wait for each other.
func TestControlMessagesGoFirst(t *testing.T) {
	notWithTinyBuffers(t)
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
			m := msgApp(2, 1, i, data)
			m.Context = []byte("one of several groups, whose appends are all queued")
			return m
		},
	}
	other := map[string]string{"proposals": "appends", "appends": "proposals"}
	for name, flood := range bulk {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T, n *memnet.Network) {
				a := startSimulated(t, n, 1, func(tr *rafthttp.Transport) { tr.SendQueueBytes = 8 << 18 })
				a.AddPeer(2, silentHost(n, 2))
				got := arrivals(t, dialStream(t, n.Host("m2").DialContext, a, "message", 2))
				within(t, time.Second, func() bool { return laneOf(a, 2, "message").Up })
				n.Link("m1", "m2").SetBandwidth(line)

				const answers = 100
				sent := make([]time.Time, answers)
				var index uint64
				for i := range answers { // 10 s
					for range 2 * line / 10 / size {
						a.Send([]*raftpb.Message{flood(index)})
						index++
					}
					m := message(raftpb.MsgHeartbeatResp, 2)
					m.Commit = new(uint64(i))
					a.Send([]*raftpb.Message{m})
					if sent[i] = time.Now(); i%40 == 10 {
						a.Send([]*raftpb.Message{bulk[other[name]](0)})
					}
					time.Sleep(100 * time.Millisecond)
				}
				time.Sleep(time.Second)
				require.NotZero(t, laneOf(a, 2, "message").Drops.QueueFull, "the line is full")
				for i := range sent {
					at, ok := got.heartbeat(uint64(i))
					require.True(t, ok, "answer %d of %d", i, answers)
					require.LessOrEqual(t, at.Sub(sent[i]), 250*time.Millisecond, "answer %d", i)
				}
				require.Equal(t, 3, got.of(bulk[other[name]](0).GetType()), "the other kind has a queue of its own")
			})
		})
	}
}

// arrived is what came by a stream, and when.
type arrived struct {
	mu         sync.Mutex
	heartbeats map[uint64]time.Time // by commit index
	types      map[raftpb.MessageType]int
}

func arrivals(t *testing.T, c *client) *arrived {
	a := &arrived{heartbeats: map[uint64]time.Time{}, types: map[raftpb.MessageType]int{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		dec := wire.NewMessageDecoder(wire.NewReader(c.body), wire.Limits{})
		for {
			m, err := dec.Decode()
			if err != nil {
				return
			}
			a.mu.Lock()
			if m != nil {
				a.types[m.GetType()]++
			}
			if m.GetType() == raftpb.MsgHeartbeatResp {
				a.heartbeats[m.GetCommit()] = time.Now()
			}
			a.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		c.Close()
		<-done
	})
	return a
}

func (a *arrived) heartbeat(commit uint64) (at time.Time, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	at, ok = a.heartbeats[commit]
	return at, ok
}

func (a *arrived) of(typ raftpb.MessageType) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.types[typ]
}
