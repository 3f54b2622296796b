package groups_test

import (
	"context"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// TestStopTellsOfSnapshots: the Observer is told of transfers that Stop ends, in both directions.
func TestStopTellsOfSnapshots(t *testing.T) {
	for name, removed := range map[string]bool{"of a node that stays": false, "of a node that was removed just before": true} {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				var sent, received ended
				observed := func(e *ended) func(*rafthttp.Transport) {
					return func(tr *rafthttp.Transport) { tr.Raft, tr.Observer = rafthttp.NoRaft{}, e.observer(t) }
				}
				ma, mb := testmember.StartSimulated(t, n, 1, observed(&sent)), testmember.StartSimulated(t, n, 2, observed(&received))
				a, b := connect(t, ma, mb, 7, testmember.Saver(func(r io.Reader, _ uint64) (int64, error) { return io.Copy(io.Discard, r) }))
				b.raft.OnProcess = func(ctx context.Context, _ *raftpb.Message) error {
					<-ctx.Done()
					time.Sleep(time.Second)
					return ctx.Err()
				}
				m, _ := small("database")
				a.SendSnapshot(m)
				time.Sleep(2 * time.Second)
				if removed {
					b.RemovePeer(1)
					a.RemovePeer(2)
				}
				mb.Stop()
				ma.Stop()
				require.Len(t, received.all, 1)
				require.Len(t, sent.all, 1)
			})
		})
	}
}

// TestContextOfASnapshotEndsWithTheReplica: the context of Process for its message, as for others.
func TestContextOfASnapshotEndsWithTheReplica(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a, b := between(t, n, 7, testmember.SavesAll)
		ended := make(chan error, 1)
		b.raft.OnProcess = func(ctx context.Context, _ *raftpb.Message) error {
			<-ctx.Done()
			ended <- context.Cause(ctx)
			return ctx.Err()
		}
		m, _ := small("database")
		a.SendSnapshot(m)
		time.Sleep(time.Second)
		b.RemovePeer(1)
		time.Sleep(time.Second)
		synctest.Wait()
		require.Len(t, ended, 1)
		require.ErrorIs(t, <-ended, rafthttp.ErrPeerRemoved)
		require.Equal(t, []raft.SnapshotStatus{raft.SnapshotFailure}, a.raft.SnapshotReports())
	})
}

// TestSnapshotsToOneReplica: 16 may wait or be under way; raft sends one at a time.
func TestSnapshotsToOneReplica(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		n.Host(testmember.HostOf(2))
		n.DialBlock(testmember.HostOf(1), testmember.HostOf(2), memnet.DialHangs)
		a := join(t, startNode(t, n, 1), 7, nil)
		a.AddReplica(2, 2, []string{testmember.URLOf(2)})
		a.AddReplica(3, 2, []string{testmember.URLOf(2)})
		for i := range uint64(17) {
			a.SendSnapshot(snap.NewMessage(testmember.MsgSnap(2, 1, i+1), io.NopCloser(strings.NewReader("database")), 8))
		}
		a.SendSnapshot(snap.NewMessage(testmember.MsgSnap(3, 1, 1), io.NopCloser(strings.NewReader("database")), 8))
		synctest.Wait()
		require.Equal(t, []raft.SnapshotStatus{raft.SnapshotFailure}, a.raft.SnapshotReports())
	})
}
