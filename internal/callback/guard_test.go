package callback_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/internal/callback"
)

// TestGuardDoesNotAllocate: a callback for each message is guarded at no cost in memory.
func TestGuardDoesNotAllocate(t *testing.T) {
	g := callback.Guard{Log: zap.NewNop(), Calls: new(callback.Calls)}
	m := &raftpb.Message{Type: raftpb.MsgApp.Enum(), From: new(uint64(2))}
	calls := 0
	one := func() {
		defer g.Recover(callback.Call{Name: callback.RaftProcess, Peer: 2, Lane: "append", Type: m.GetType(), From: m.GetFrom()})
		calls++
	}
	run := func() {
		var current *raftpb.Message
		defer g.RecoverRun(callback.Call{Name: callback.RaftProcess, Peer: 2, Lane: "append"}, &current)
		current = m
		calls++
	}
	require.Zero(t, testing.AllocsPerRun(100, one))
	require.Zero(t, testing.AllocsPerRun(100, run))
	require.Equal(t, 202, calls)
}

// TestCallsThatHaveNotReturned: a call is listed from Begin to End.
func TestCallsThatHaveNotReturned(t *testing.T) {
	g := callback.Guard{Log: zap.NewNop(), Calls: new(callback.Calls)}
	require.Empty(t, g.Calls.List())
	first := g.Begin(callback.Call{Name: "VerifyPeer", Peer: 2})
	func() {
		defer g.End(g.Begin(callback.Call{Name: callback.RaftProcess, Peer: 3, Lane: "append"}))
		var names []string
		for _, c := range g.Calls.List() {
			names = append(names, c.String())
		}
		require.ElementsMatch(t, []string{"VerifyPeer of 2", "Raft.Process, append, of 3"}, names)
	}()
	require.Equal(t, []callback.Call{{Name: "VerifyPeer", Peer: 2}}, g.Calls.List())
	g.End(first)
	require.Empty(t, g.Calls.List())

	of := g.Of(7).Begin(callback.Call{Name: "Raft.ReportUnreachable", Peer: 2})
	require.Equal(t, "Raft.ReportUnreachable, group 7, of 2", g.Calls.List()[0].String())
	g.End(of)
	require.Equal(t, "Raft.Process, group 7, append, of 3", callback.Call{Name: callback.RaftProcess, Group: 7, Lane: "append", Peer: 3}.String())

	untracked := callback.Guard{Log: zap.NewNop()}
	untracked.End(untracked.Begin(callback.Call{Name: "VerifyPeer"}))
}
