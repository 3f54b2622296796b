package rafthttp_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// locals are messages that Send is not for: for both local threads of raft, and for member 1 itself.
func locals() []*raftpb.Message {
	return []*raftpb.Message{
		{Type: raftpb.MsgStorageAppend.Enum(), To: new(raft.LocalAppendThread), From: new(uint64(1))},
		{Type: raftpb.MsgStorageApply.Enum(), To: new(raft.LocalApplyThread), From: new(uint64(1))},
		{Type: raftpb.MsgStorageAppendResp.Enum(), To: new(uint64(1)), From: new(raft.LocalAppendThread)},
	}
}

const localLine = "Send was given messages for raft's local threads"

// TestLocalMessages: Send drops them for a reason of their own, which Status, the Observer and the log tell, and sends what is
// beside them. Those to nobody are ignored.
func TestLocalMessages(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		core, logs := observer.New(zap.WarnLevel)
		var mu sync.Mutex
		told := map[string]int{}
		a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) {
			tr.Logger = zap.New(core)
			tr.Observer = &rafthttp.Observer{Dropped: func(id types.ID, lane string, n int, cause error) {
				mu.Lock()
				defer mu.Unlock()
				told[fmt.Sprint(id, lane, rafthttp.DropReasonOf(cause))] += n
			}}
		})
		b := testmember.StartSimulated(t, n, 2, nil)
		testmember.Connect(t, a, b)
		const rounds = 10
		for range rounds {
			msgs := []*raftpb.Message{testmember.Heartbeat(2, 1, 1), {Type: raftpb.MsgHeartbeat.Enum()}}
			a.Send(append(append(msgs, locals()...), testmember.Heartbeat(2, 1, 2)))
		}
		synctest.Wait()
		require.Len(t, b.Recorder.Received(), 2*rounds)
		require.Equal(t, rafthttp.Drops{Local: 3 * rounds}, a.Status().Drops)
		mu.Lock()
		require.Equal(t, map[string]int{"1locallocal": 3 * rounds}, told)
		mu.Unlock()
		require.Equal(t, 1, logs.FilterMessageSnippet(localLine).Len())
		time.Sleep(time.Minute)
		a.Send(locals())
		synctest.Wait()
		lines := logs.FilterMessageSnippet(localLine).All()
		require.Len(t, lines, 2)
		require.EqualValues(t, 3*rounds+3, lines[1].ContextMap()["dropped-total"])
		require.Equal(t, rafthttp.ErrLocalMessage.Error(), lines[1].ContextMap()["error"])

		require.Zero(t, a.Recorder.Unreachables(1), "raft would probe itself")
		for _, thread := range []uint64{raft.LocalAppendThread, raft.LocalApplyThread} {
			require.Zero(t, a.Recorder.Unreachables(thread))
		}
		a.Stop()
		a.Send(locals())
		require.EqualValues(t, 3*rounds+3, a.Status().Drops.Total(), "after Stop it does nothing")
	})
}

// TestLocalThreadIsNoMember: a stranger that calls itself a local thread of raft is not sent what is for the thread: the log.
func TestLocalThreadIsNoMember(t *testing.T) {
	for name, add := range map[string]func(t *testing.T, a *testmember.Member, id types.ID){
		"stranger": func(t *testing.T, a *testmember.Member, id types.ID) {
			testmember.IntroduceBy(t, a, id, testmember.URLOf(9), testmember.Heartbeat(1, 9, 1))
		},
		"remote": func(_ *testing.T, a *testmember.Member, id types.ID) { a.AddRemote(id, []string{testmember.URLOf(9)}) },
		"peer":   func(_ *testing.T, a *testmember.Member, id types.ID) { a.AddPeer(id, []string{testmember.URLOf(9)}) },
	} {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				ln, err := n.Host(testmember.HostOf(9)).Listen("2380")
				require.NoError(t, err)
				posted := make(chan string, 100)
				s := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					if r.Method == http.MethodPost {
						posted <- r.URL.Path
					}
				})}
				go func() { _ = s.Serve(ln) }()
				t.Cleanup(func() { s.Close() })
				a := testmember.StartSimulated(t, n, 1, nil)
				for _, id := range []uint64{raft.LocalAppendThread, raft.LocalApplyThread} {
					add(t, a, types.ID(id))
				}
				a.Send(locals())
				time.Sleep(time.Second)
				require.Empty(t, posted)
				require.EqualValues(t, 3, a.Status().Drops.Local)
			})
		})
	}
}

// TestLocalThreadIsNoID: raft refuses such a member, too.
func TestLocalThreadIsNoID(t *testing.T) {
	for _, id := range []uint64{raft.LocalAppendThread, raft.LocalApplyThread} {
		err := (&rafthttp.Transport{ID: types.ID(id), Raft: quietRaft{}}).Start()
		var wrong *rafthttp.ConfigError
		require.ErrorAs(t, err, &wrong)
		require.Equal(t, "ID", wrong.Field)
	}
}

// TestLocalMessagesCostNothing: a server that gives Send everything does so for each Ready.
func TestLocalMessagesCostNothing(t *testing.T) {
	if testmember.RaceEnabled {
		t.Skip("the race detector allocates")
	}
	a := testmember.Start(t, 1, nil)
	msgs := locals()
	a.Send(msgs) // the line of the log
	require.Zero(t, testing.AllocsPerRun(100, func() { a.Send(msgs) }))
}
