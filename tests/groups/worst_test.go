package groups_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// TestWorstGroups: blocked groups come first, by for how long, then those that fail, those with inactive replicas, those that
// have dropped something, and the others by id. Each is found by its id as well.
func TestWorstGroups(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		require.Empty(t, new(rafthttp.Transport).WorstGroups(1))
		ma, mb := startNode(t, n, 1), startNode(t, n, 2)
		open := make(chan struct{})
		unblock := sync.OnceFunc(func() { close(open) })
		defer unblock()
		wait := func(context.Context, *raftpb.Message) error { <-open; return nil }
		fail := func(context.Context, *raftpb.Message) error { return errors.New("no") }
		process := map[uint64]func(context.Context, *raftpb.Message) error{3: wait, 4: wait, 5: fail}
		all, mine := map[uint64]joined{}, map[uint64]joined{}
		for id := uint64(1); id <= 8; id++ {
			mine[id] = join(t, mb, id, func(cfg *rafthttp.GroupConfig) { cfg.Raft = &testmember.Recorder{OnProcess: process[id]} })
			mine[id].AddPeer(1, []string{testmember.URLOf(1)})
			all[id] = join(t, ma, id, nil)
			all[id].AddPeer(2, []string{testmember.URLOf(2)})
		}
		time.Sleep(time.Second)
		all[4].Send([]*raftpb.Message{ofKind(queue.Append, 1, 10)})
		all[5].Send([]*raftpb.Message{ofKind(queue.Control, 1, 10)})
		time.Sleep(time.Second)
		all[3].Send([]*raftpb.Message{ofKind(queue.Proposal, 1, 10)})
		one, found := mb.GroupStatus(6)
		require.True(t, found)
		require.EqualValues(t, 6, one.ID)
		_, found = mb.GroupStatus(9)
		require.False(t, found)
		g, err := mb.Group(9, rafthttp.GroupConfig{Raft: &testmember.Recorder{}})
		require.NoError(t, err)
		g.AddPeer(3, []string{testmember.URLOf(3)}) // where nobody is
		time.Sleep(2 * time.Second)
		mine[7].Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1)}) // to itself
		time.Sleep(100 * time.Millisecond)

		worst := mb.WorstGroups(100)
		var ids []uint64
		for _, st := range worst {
			ids = append(ids, st.ID)
			one, found := mb.GroupStatus(st.ID)
			require.True(t, found)
			require.Equal(t, st, one)
		}
		require.Equal(t, []uint64{4, 3, 5, 9, 7, 1, 2, 6, 8}, ids)
		require.Equal(t, 3100*time.Millisecond, worst[0].BlockedFor)
		require.Positive(t, worst[0].QueuedBytes)
		require.True(t, worst[2].Failing)
		require.Zero(t, worst[2].BlockedFor)
		require.Len(t, mb.WorstGroups(2), 2)
		require.Empty(t, mb.WorstGroups(-1))
		unblock()
		time.Sleep(100 * time.Millisecond)
		require.EqualValues(t, 5, mb.WorstGroups(1)[0].ID)
	})
}

// TestBlockedControlMessage: a group whose Process blocks on a heartbeat is blocked as one that does on another message.
func TestBlockedControlMessage(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		ma, mb := startNode(t, n, 1), startNode(t, n, 2)
		open := make(chan struct{})
		unblock := sync.OnceFunc(func() { close(open) })
		defer unblock()
		for id := uint64(1); id <= 2; id++ {
			to := join(t, mb, id, func(cfg *rafthttp.GroupConfig) {
				cfg.Raft = &testmember.Recorder{OnProcess: func(context.Context, *raftpb.Message) error { <-open; return nil }}
			})
			to.AddPeer(1, []string{testmember.URLOf(1)})
			from := join(t, ma, id, nil)
			from.AddPeer(2, []string{testmember.URLOf(2)})
			time.Sleep(time.Second)
			if id == 2 {
				from.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1)})
			}
		}
		time.Sleep(2 * time.Second)
		worst := mb.WorstGroups(1)[0]
		require.EqualValues(t, 2, worst.ID)
		require.Equal(t, 2*time.Second, worst.BlockedFor)
		require.Positive(t, worst.QueuedBytes)
		unblock()
	})
}

// BenchmarkWorstGroups of 10,000 with two replicas each.
func BenchmarkWorstGroups(b *testing.B) {
	m := &rafthttp.Transport{ID: 1, Raft: rafthttp.NoRaft{}}
	require.NoError(b, m.Start())
	defer m.Stop()
	for id := range uint64(10000) {
		g, err := m.Group(id+1, rafthttp.GroupConfig{Raft: &testmember.Recorder{}})
		require.NoError(b, err)
		g.AddPeer(2, []string{"http://127.0.0.1:1"})
		g.AddPeer(3, []string{"http://127.0.0.1:1"})
	}
	for b.Loop() {
		m.WorstGroups(20)
	}
}
