package rafttest_test

import (
	"context"
	"io"
	"log"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/memnet/rafttest"
)

// server is the smallest there can be: raft, and a log that stays in memory.
type server struct {
	raft.Node
	log *raft.MemoryStorage
}

func (s server) Process(ctx context.Context, m *raftpb.Message) error { return s.Step(ctx, m) }
func (s server) IsIDRemoved(uint64) bool                              { return false } // the members never change

func (s server) run(ctx context.Context, member *rafttest.Member) {
	defer s.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.Tick()
		case rd := <-s.Ready():
			if !raft.IsEmptyHardState(rd.HardState) {
				_ = s.log.SetHardState(rd.HardState)
			}
			_ = s.log.Append(rd.Entries)
			member.Send(rd.Messages)
			s.Advance()
		case <-ctx.Done():
			return
		}
	}
}

// Five members, of which two are cut off: within a minute the other three have a leader, and once the cluster is whole
// again there is one for all. The minutes pass in milliseconds.
func TestFiveMembersThroughAPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := rafttest.New(t, rafttest.Config{Members: 5})
		servers := map[uint64]server{}
		for id := uint64(1); id <= 5; id++ {
			servers[id] = newServer(id, 5)
			go servers[id].run(t.Context(), c.Start(id, servers[id]))
		}

		time.Sleep(time.Minute)
		lead := servers[1].Status().Lead
		require.NotZero(t, lead)
		other := lead%5 + 1
		c.Partition([]uint64{lead, other}, rest(5, lead, other))
		time.Sleep(time.Minute)
		var leads []uint64
		for _, id := range rest(5, lead, other) {
			leads = append(leads, servers[id].Status().Lead)
		}
		require.NotContains(t, []uint64{0, lead, other}, leads[0])
		require.Equal(t, []uint64{leads[0], leads[0], leads[0]}, leads)

		c.Heal()
		time.Sleep(time.Minute)
		for id := range servers {
			require.Equal(t, servers[1].Status().Lead, servers[id].Status().Lead)
		}
	})
}

// newServer returns member id of a cluster whose members have the ids from 1 to n.
func newServer(id, n uint64) server {
	s := server{log: raft.NewMemoryStorage()}
	_ = s.log.ApplySnapshot(&raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
		Index: new(uint64(1)), Term: new(uint64(1)), ConfState: &raftpb.ConfState{Voters: rest(n)},
	}})
	s.Node = raft.RestartNode(&raft.Config{
		ID: id, ElectionTick: 10, HeartbeatTick: 1, Storage: s.log, MaxSizePerMsg: 1 << 20, MaxInflightMsgs: 16,
		PreVote: true, CheckQuorum: true, Logger: &raft.DefaultLogger{Logger: log.New(io.Discard, "", 0)},
	})
	return s
}

// rest returns the ids from 1 to n but those.
func rest(n uint64, without ...uint64) (ids []uint64) {
	for id := uint64(1); id <= n; id++ {
		if !slices.Contains(without, id) {
			ids = append(ids, id)
		}
	}
	return ids
}
