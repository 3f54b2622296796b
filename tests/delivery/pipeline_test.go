package delivery_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// postServer is a member that takes posts, and nothing else; take may hold one up.
func postServer(t *testing.T, n *memnet.Network, id types.ID, take func(ctx context.Context, m *raftpb.Message)) {
	t.Helper()
	ln, err := n.Host(testmember.HostOf(id)).Listen("2380")
	require.NoError(t, err)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var m raftpb.Message
		if r.URL.Path != "/raft" || proto.Unmarshal(body, &m) != nil {
			http.NotFound(w, r)
			return
		}
		take(r.Context(), &m)
		w.WriteHeader(http.StatusNoContent)
	})}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(ln)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-served
	})
}

// TestKindsInThePipeline: a message waits in the pipeline for none of another kind,
// and finds room whatever waits of the others, to a peer and to a remote.
func TestKindsInThePipeline(t *testing.T) {
	ofKind := map[string]func(i uint64) *raftpb.Message{
		"control":    func(i uint64) *raftpb.Message { return testmember.Heartbeat(2, 1, i) },
		"appends":    func(i uint64) *raftpb.Message { return testmember.MsgApp(2, 1, i, nil) },
		"proposals":  func(uint64) *raftpb.Message { return testmember.Message(raftpb.MsgProp, 2) },
		"a snapshot": func(uint64) *raftpb.Message { return testmember.Message(raftpb.MsgSnap, 2) },
	}
	held := map[string][]raftpb.MessageType{
		"control": {raftpb.MsgHeartbeat}, "proposals": {raftpb.MsgProp}, "appends": {raftpb.MsgApp, raftpb.MsgSnap},
	}
	for to, add := range map[string]func(m *testmember.Member){
		"peer":   func(m *testmember.Member) { m.AddPeer(2, []string{testmember.URLOf(2)}) },
		"remote": func(m *testmember.Member) { m.AddRemote(2, []string{testmember.URLOf(2)}) },
	} {
		for slow, types := range held {
			t.Run(fmt.Sprintf("%s/%s wait", to, slow), func(t *testing.T) {
				testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
					var mu sync.Mutex
					got, waits := map[raftpb.MessageType]int{}, 0
					postServer(t, n, 2, func(ctx context.Context, m *raftpb.Message) {
						for _, typ := range types {
							if m.GetType() == typ {
								mu.Lock()
								waits++
								mu.Unlock()
								<-ctx.Done()
								return
							}
						}
						mu.Lock()
						defer mu.Unlock()
						got[m.GetType()]++
					})
					a := testmember.StartSimulated(t, n, 1, nil)
					add(a)
					time.Sleep(time.Second)
					for i := range uint64(100) {
						a.Send([]*raftpb.Message{ofKind[slow](i)})
					}
					synctest.Wait()
					mu.Lock()
					require.Equal(t, 4, waits, "posts of one kind at a time")
					mu.Unlock()
					start, sent := time.Now(), 0
					for kind, make := range ofKind {
						if kind != slow && !(kind == "a snapshot" && slow == "appends") {
							for i := range uint64(30) {
								a.Send([]*raftpb.Message{make(i)})
								sent++
							}
						}
					}
					synctest.Wait()
					require.Zero(t, time.Since(start))
					mu.Lock()
					defer mu.Unlock()
					all := 0
					for _, n := range got {
						all += n
					}
					require.Equal(t, sent, all, got)
				})
			})
		}
	}
}

// TestPipelineInStatus: the lanes of the pipeline are one to those who watch, as full as
// the fullest.
func TestPipelineInStatus(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a := testmember.StartSimulated(t, n, 1, nil)
		n.Link("m1", "m2").Cut()
		a.AddPeer(2, testmember.SilentHost(n, 2))
		for i := range uint64(70) {
			a.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, i), testmember.MsgApp(2, 1, i, nil), testmember.Message(raftpb.MsgProp, 2)})
			time.Sleep(10 * time.Millisecond)
		}
		l := testmember.LaneOf(a, 2, "pipeline")
		require.Equal(t, 64, l.Queued)
		require.Equal(t, 64, l.Capacity)
		require.EqualValues(t, 64<<20, l.CapacityBytes)
		require.EqualValues(t, 3*6, l.Drops.QueueFull)
		require.Positive(t, l.QueuedBytes)
		require.Equal(t, 700*time.Millisecond, l.OldestAge)
		require.True(t, l.Up)
		names := map[string]int{}
		for _, l := range a.Status().Peers[0].Lanes {
			names[l.Name]++
		}
		require.Equal(t, map[string]int{"message": 1, "msgapp": 1, "pipeline": 1, "control": 1, "append": 1, "proposal": 1}, names)
	})
}

// TestSlowPost: a post lives as long as its body moves, by the rule of the receiver, and
// no longer.
func TestSlowPost(t *testing.T) {
	const size = 2 << 20
	post := func(t *testing.T, n *memnet.Network, rate int) (a, b *testmember.Member) {
		a, b = testmember.StartSimulated(t, n, 1, nil), testmember.StartSimulated(t, n, 2, nil)
		a.AddPeer(2, []string{b.URL})
		n.Link("m1", "m2").SetBandwidth(rate)
		a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, 1, make([]byte, size))})
		return a, b
	}
	t.Run("moves", func(t *testing.T) {
		testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
			a, b := post(t, n, 100<<10)
			testmember.Within(t, 30*time.Second, func() bool { return len(b.Recorder.Received()) == 1 })
			require.Zero(t, a.Recorder.Unreachables(2))
		})
	})
	t.Run("below the least rate", func(t *testing.T) {
		testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
			a, b := post(t, n, 8<<10)
			testmember.Within(t, 3*time.Minute, func() bool { return a.Recorder.Unreachables(2) == 1 })
			require.Empty(t, b.Recorder.Received())
			time.Sleep(time.Second) // the server lingers
		})
	})
	t.Run("stands still", func(t *testing.T) {
		testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
			a, _ := post(t, n, 100<<10)
			time.Sleep(5 * time.Second)
			n.Link("m1", "m2").Cut()
			testmember.Within(t, testmember.ReadTimeout+testmember.WriteTimeout+time.Second, func() bool { return a.Recorder.Unreachables(2) == 1 })
			time.Sleep(time.Second) // the server lingers
		})
	})
}
