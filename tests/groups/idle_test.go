package groups_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/stacks"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// TestAnHourWithoutTraffic: the streams of two nodes stay up, no group is told anything, what traffic needed before is given back, and the
// first messages and the first snapshot after it arrive at once.
func TestAnHourWithoutTraffic(t *testing.T) {
	const groups = 100
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		ma, mb := startNode(t, n, 1), startNode(t, n, 2)
		var as, bs []joined
		for id := range uint64(groups) {
			a, b := connect(t, ma, mb, id+1, testmember.SavesAll)
			as, bs = append(as, a), append(bs, b)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		quiet := stacks.InBubble()
		received := 0
		requireTraffic := func() {
			t.Helper()
			for i := range as {
				as[i].Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1), testmember.MsgApp(2, 1, 1, nil)})
				bs[i].Send([]*raftpb.Message{testmember.Heartbeat(1, 2, 1), testmember.MsgApp(1, 2, 1, nil)})
			}
			m, db := small("database")
			as[0].SendSnapshot(m)
			time.Sleep(time.Second)
			received += 2
			require.True(t, <-m.CloseNotify())
			require.EqualValues(t, 1, db.Closes.Load())
			require.Len(t, bs[0].raft.Received(), received+len(as[0].raft.SnapshotReports()))
			for i := range as {
				require.Len(t, as[i].raft.Received(), received)
				require.Zero(t, as[i].raft.Unreachables(2)+bs[i].raft.Unreachables(1))
				require.Equal(t, 1, as[i].ActivePeers())
				if i > 0 {
					require.Len(t, bs[i].raft.Received(), received)
				}
			}
		}
		requireTraffic()
		for range 2 {
			time.Sleep(time.Hour)
			synctest.Wait()
			require.LessOrEqual(t, stacks.InBubble(), quiet)
			requireTraffic()
		}
		require.Equal(t, []raft.SnapshotStatus{raft.SnapshotFinish, raft.SnapshotFinish, raft.SnapshotFinish}, as[0].raft.SnapshotReports())
		for _, m := range []*testmember.Member{ma, mb} {
			for _, s := range groupNode(t, m, 3-m.ID).Streams {
				require.EqualValues(t, 1, s.Connects, "%s %s", s.Name, s.Direction)
			}
			require.Empty(t, m.Health().Problems)
		}
	})
}
