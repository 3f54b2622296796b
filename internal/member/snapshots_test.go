package member

import (
	"context"
	"errors"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/callback"
)

// TestSnapshotBackoffTakesNoTime: however many snapshots have failed in a row, the next time is computed at once, and grows to its
// bound.
func TestSnapshotBackoffTakesNoTime(t *testing.T) {
	require.Zero(t, snapshotBackoff(0, math.MaxInt))
	require.Equal(t, time.Minute, snapshotBackoff(1, math.MaxInt))
	require.Equal(t, time.Minute, snapshotBackoff(time.Second, math.MaxInt))
	require.Equal(t, time.Hour, snapshotBackoff(time.Hour, math.MaxInt))
	require.Equal(t, 4*time.Second, snapshotBackoff(time.Second, 3))
}

// countingRaft counts reports of snapshots.
type countingRaft struct {
	mu      sync.Mutex
	reports int
}

func (r *countingRaft) Process(context.Context, *raftpb.Message) error { return nil }
func (r *countingRaft) IsIDRemoved(uint64) bool                        { return false }
func (r *countingRaft) ReportUnreachable(uint64)                       {}
func (r *countingRaft) ReportSnapshot(uint64, raft.SnapshotStatus) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reports++
}

func (r *countingRaft) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reports
}

// TestHeldReportIsMadeAtTheEnd: a snapshot that was announced, and is refused since the member has ended, has no end that could
// bring the report of the one before.
func TestHeldReportIsMadeAtTheEnd(t *testing.T) {
	for name, over := range map[string]func(*Member){
		"while it is held":        func(*Member) {},
		"after its time":          func(*Member) { time.Sleep(2 * time.Second) },
		"after the member moved":  (*Member).HurrySnapshots,
		"and another one running": func(m *Member) { m.SnapshotsBegan(1); m.HurrySnapshots() },
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				to := &countingRaft{}
				n := callback.NewRegistry(callback.Guard{}, to, callback.EventHooks{}, zap.NewNop()).Acquire(2)
				m := &Member{
					Cfg: &Config{SnapshotBackoff: time.Second}, RemoteID: 2, Wait: new(sync.WaitGroup), Log: n.Log, Reports: n.Reports,
					Activity: newActivity(zap.NewNop(), time.Second),
				}
				m.Ctx, m.Cancel = context.WithCancelCause(t.Context())
				m.SnapshotsBegan(1)
				m.SnapshotEnded(errors.New("disk full"))
				m.SnapshotsBegan(1) // and then refused
				over(m)
				synctest.Wait()
				require.Zero(t, to.count())
				m.End(errors.New("removed"))
				m.Wait.Wait()
				synctest.Wait()
				require.Equal(t, 1, to.count())
			})
		})
	}
}
