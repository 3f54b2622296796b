package groups

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/fair"
	"github.com/seed-4d73690b/rafthttp/internal/member"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
)

// TestResultsOfRemovedReplicasAreForgotten: also of those that were removed while a snapshot to them was sent: replicas come and go as long
// as a group lives.
func TestResultsOfRemovedReplicasAreForgotten(t *testing.T) {
	for name, backoff := range map[string]time.Duration{"reported at once": 0, "held back": time.Hour} {
		for _, cause := range []error{errs.ErrPeerRemoved, errors.New("disk full"), nil} {
			t.Run(name, func(t *testing.T) {
				var wg sync.WaitGroup
				gs := &Groups{node: &member.Config{SnapshotBackoff: backoff}, owed: fair.NewShare(queue.Limits{Messages: 1000, Bytes: 1000})}
				var reports atomic.Int64
				gs.reports = fair.NewPool(fair.PoolConfig{Wait: &wg, Process: func(*fair.Inbox, *raftpb.Message, int64) { reports.Add(1) }})
				var g Group
				g.init(gs, 7, 1, App{})
				for id := uint64(2); id < 10; id++ {
					m := &raftpb.Message{To: &id}
					g.snapshotBegan(id)
					require.True(t, g.posts(m))
					g.hurrySnapshots(id) // as the end of the replica does
					g.snapshotEnded(id, cause)
					g.posted(m, cause)
				}
				require.Empty(t, g.resulting().replicas)
				left := len(gs.reports.Close())
				wg.Wait()
				require.Equal(t, 16, left+int(reports.Load()))
				gs.wg.Wait() // of reports that are held back
			})
		}
	}
}
