package delivery_test

import (
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// TestCutDropsWhatAWorkerHasTaken: CutPeer drops what waits, but not what is being processed: nor does what the worker of the lane
// has taken together with that, and what waits behind it, survive a short cut.
func TestCutDropsWhatAWorkerHasTaken(t *testing.T) {
	for name, c := range cutters {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				h := testmember.NewHoldingRaft(func(*raftpb.Message) bool { return true })
				a, _ := testmember.OnHolding(t, n, h, func(tr *rafthttp.Transport) { tr.Raft = stubbornRaft{h} })
				b := testmember.StartSimulated(t, n, 2, nil)
				testmember.Connect(t, a, b)
				b.Send(testmember.Heartbeats(2, 1, 5)) // one batch
				synctest.Wait()
				calls, running := h.Begun()
				require.Equal(t, []int{1, 1}, []int{calls, running})
				c.cut(a)
				synctest.Wait()
				c.mend(a)
				close(h.Release)
				time.Sleep(time.Second)
				calls, _ = h.Begun()
				require.Equal(t, 1, calls, "what waited behind the first was dropped")
			})
		})
	}
}

// TestCutDropsWhatAWriterHasTaken is that for the way out: the peer does not read for a while.
func TestCutDropsWhatAWriterHasTaken(t *testing.T) {
	for name, c := range cutters {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				a := testmember.StartSimulated(t, n, 1, nil)
				a.AddPeer(2, testmember.SilentHost(n, 2))
				stream := testmember.DialStream(t, n.Host("m2").DialContext, a, "msgapp", 2)
				testmember.Within(t, time.Second, func() bool { return testmember.LaneOf(a, 2, "msgapp").Up })
				time.Sleep(10 * time.Millisecond)
				var msgs []*raftpb.Message
				for i := range uint64(5) {
					msgs = append(msgs, testmember.MsgApp(2, 1, 10*i, make([]byte, 1<<20)))
				}
				a.Send(msgs)
				time.Sleep(100 * time.Millisecond) // the first is being written
				c.cut(a)
				time.Sleep(100 * time.Millisecond)
				c.mend(a)
				got := make(chan int64, 1)
				go func() {
					n, _ := io.Copy(io.Discard, stream.Conn)
					got <- n
				}()
				time.Sleep(time.Second)
				stream.Close()
				require.Less(t, <-got, int64(3<<20), "what waited behind the first was dropped")
			})
		})
	}
}

// TestCutDropsWhatWaitsForRoom: nor does what found no room in its lane before a short cut, and waits for that. The stream goes on, and
// a post is answered at once.
func TestCutDropsWhatWaitsForRoom(t *testing.T) {
	for name, c := range cutters {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				h := testmember.NewHoldingRaft(func(*raftpb.Message) bool { return true })
				a, posts := testmember.OnHolding(t, n, h, func(tr *rafthttp.Transport) { tr.Raft, tr.ReceiveQueueMessages = stubbornRaft{h}, 1 })
				release := sync.OnceFunc(func() { close(h.Release) })
				t.Cleanup(release)
				b := testmember.StartSimulated(t, n, 2, nil)
				testmember.Connect(t, a, b)
				b.Send([]*raftpb.Message{testmember.MsgApp(1, 2, 1, nil), testmember.MsgApp(1, 2, 10, nil), testmember.MsgApp(1, 2, 20, nil)})
				synctest.Wait()
				posts.Post(testmember.PeerHeader(nil), testmember.MsgApp(1, 2, 30, nil))
				calls, _ := h.Begun()
				require.Equal(t, 1, calls)
				c.cut(a)
				c.mend(a)
				require.Equal(t, 500, <-posts.Codes)
				b.Send([]*raftpb.Message{testmember.MsgApp(1, 2, 40, nil)})
				release()
				synctest.Wait()
				calls, _ = h.Begun()
				require.Equal(t, 2, calls, "the one that was processed, and that behind the cut")
				require.EqualValues(t, 3, testmember.LaneOf(a, 2, "append").Drops.Paused)
				require.True(t, testmember.LaneOf(b, 1, "msgapp").Up)
			})
		})
	}
}

// TestEndDropsWhatAWriterHasTaken: what a writer has taken and not written when its peer is removed, or the transport stopped, is
// dropped for that reason, as what is queued behind it.
func TestEndDropsWhatAWriterHasTaken(t *testing.T) {
	for name, end := range map[string]func(a *testmember.Member){
		"RemovePeer": func(a *testmember.Member) { a.RemovePeer(2) }, "Stop": func(a *testmember.Member) { a.Stop() },
	} {
		for _, lane := range []string{"msgapp", "message"} {
			t.Run(name+"/"+lane, func(t *testing.T) {
				testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
					var mu sync.Mutex
					drops := map[rafthttp.DropReason]int{}
					a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) {
						tr.Observer = &rafthttp.Observer{Dropped: func(_ types.ID, _ string, n int, cause error) {
							mu.Lock()
							defer mu.Unlock()
							drops[rafthttp.DropReasonOf(cause)] += n
						}}
					})
					a.AddPeer(2, testmember.SilentHost(n, 2))
					testmember.DialStream(t, n.Host("m2").DialContext, a, lane, 2)
					testmember.Within(t, time.Second, func() bool { return testmember.LaneOf(a, 2, lane).Up })
					time.Sleep(10 * time.Millisecond)
					var msgs []*raftpb.Message
					for i := range uint64(5) {
						msgs = append(msgs, testmember.MsgApp(2, 1, 10*i, make([]byte, 1<<20)))
					}
					a.Send(msgs)
					time.Sleep(100 * time.Millisecond) // the first is being written
					end(a)
					synctest.Wait()
					mu.Lock()
					defer mu.Unlock()
					require.Equal(t, map[rafthttp.DropReason]int{rafthttp.DropEnded: 5}, drops)
				})
			})
		}
	}
}
