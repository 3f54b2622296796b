package operating_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// TestSlowDiskAgesNoQueue: while a Ready loop stands still, as with a slow disk, raft's Step goes on, and no queue fills or ages.
// The documents and the alerts send nobody there.
func TestSlowDiskAgesNoQueue(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		storage := raft.NewMemoryStorage()
		require.NoError(t, storage.ApplySnapshot(&raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
			Index: new(uint64(1)), Term: new(uint64(1)), ConfState: &raftpb.ConfState{Voters: []uint64{1, 2}},
		}}))
		follower := raft.RestartNode(&raft.Config{ID: 2, ElectionTick: 10, HeartbeatTick: 1, Storage: storage, MaxSizePerMsg: 1 << 20, MaxInflightMsgs: 256})
		defer follower.Stop()
		stepped := 0
		a := start(t, n, 1, nil)
		b := start(t, n, 2, func(tr *rafthttp.Transport) {
			tr.Raft.(*reports).process = func(ctx context.Context, m *raftpb.Message) error {
				stepped++
				return follower.Step(ctx, m)
			}
		})
		meet(a, b)
		time.Sleep(time.Second)
		for i := range uint64(100) { // nobody reads follower.Ready
			a.Send([]*raftpb.Message{{
				Type: raftpb.MsgApp.Enum(), To: new(uint64(2)), From: new(uint64(1)), Term: new(uint64(2)), LogTerm: new(uint64(1)),
				Index: new(1 + i), Commit: new(uint64(1)), Entries: []*raftpb.Entry{{Term: new(uint64(1)), Index: new(2 + i)}},
			}})
			time.Sleep(100 * time.Millisecond)
			for _, m := range []*node{a, b} {
				for _, l := range m.peer(t, 3-m.ID).Lanes {
					require.Zero(t, l.Queued, l.Name)
					require.Zero(t, l.OldestAge, l.Name)
				}
			}
		}
		require.Equal(t, 100, stepped)
	})
	for _, document := range []string{"../../docs/operating.md", "../../docs/metrics.md", "../../metrics/alerts.yml"} {
		text, err := os.ReadFile(document)
		require.NoError(t, err)
		require.NotContains(t, string(text), "behind it the Ready loop")
		require.Contains(t, string(text), "slow disk")
	}
}
