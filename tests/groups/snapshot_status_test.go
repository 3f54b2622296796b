package groups_test

import (
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// ended keeps what GroupSnapshotEnded and SnapshotProgress tell.
type ended struct {
	mu            sync.Mutex
	all, progress []rafthttp.SnapshotStatus
}

func (e *ended) observer(t *testing.T) *rafthttp.Observer {
	t.Helper()
	add := func(to *[]rafthttp.SnapshotStatus) func(rafthttp.SnapshotStatus) {
		return func(st rafthttp.SnapshotStatus) {
			e.mu.Lock()
			defer e.mu.Unlock()
			*to = append(*to, st)
		}
	}
	return &rafthttp.Observer{GroupSnapshotEnded: add(&e.all), SnapshotProgress: add(&e.progress)}
}

// TestGroupSnapshotStatus: the status of the node has the snapshots of its groups, in both directions, with the group, while they are sent
// and when they have ended; Health finds one that failed, and the hooks are told.
func TestGroupSnapshotStatus(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		var toldA, toldB ended
		ma := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) {
			tr.Raft, tr.MaxSnapshots, tr.Observer = rafthttp.NoRaft{}, 1, toldA.observer(t)
		})
		mb := testmember.StartSimulated(t, n, 2, func(tr *rafthttp.Transport) { tr.Raft, tr.Observer = rafthttp.NoRaft{}, toldB.observer(t) })
		a7, _ := connect(t, ma, mb, 7, testmember.SavesAll)
		a8, _ := connect(t, ma, mb, 8, testmember.Saver(func(io.Reader, uint64) (int64, error) { return 0, errors.New("disk full") }))
		time.Sleep(time.Second)
		a7.SendSnapshot(snap.NewMessage(testmember.MsgSnap(2, 1, 70), testmember.Throttled(make([]byte, 30), 1, time.Second), 30))
		a8.SendSnapshot(snap.NewMessage(testmember.MsgSnap(2, 1, 80), io.NopCloser(strings.NewReader("database")), 8))
		time.Sleep(10 * time.Second)

		from, to := ma.Status().Groups.Nodes[0], mb.Status().Groups.Nodes[0]
		require.Len(t, from.Snapshots, 1)
		require.EqualValues(t, 7, from.Snapshots[0].Group)
		require.EqualValues(t, 70, from.Snapshots[0].Index)
		require.EqualValues(t, 2, from.Snapshots[0].Peer)
		require.InDelta(t, 10, from.Snapshots[0].Bytes, 2)
		require.Equal(t, rafthttp.GroupSnapshots{Waiting: 1}, from.GroupSnapshots)
		require.Len(t, to.GroupSnapshots.Receiving, 1)
		in := to.GroupSnapshots.Receiving[0]
		require.True(t, in.Incoming)
		require.EqualValues(t, 7, in.Group)
		require.EqualValues(t, 1, in.Peer)
		require.Empty(t, mb.Status().Receiving)

		time.Sleep(time.Minute)
		synctest.Wait()
		from, to = ma.Status().Groups.Nodes[0], mb.Status().Groups.Nodes[0]
		require.Empty(t, from.Snapshots)
		require.Equal(t, rafthttp.GroupSnapshots{Sent: 1, SendFailures: 1}, from.GroupSnapshots)
		require.Equal(t, rafthttp.GroupSnapshots{Received: 1, ReceiveFailures: 1}, to.GroupSnapshots)
		require.EqualValues(t, 8, from.LastSnapshot.Group)
		require.Contains(t, from.LastSnapshot.Error, "failed to save")
		require.EqualValues(t, 8, to.LastReceived.Group)
		require.Contains(t, to.LastReceived.Error, "disk full")
		require.Greater(t, from.SentBytes, uint64(30))
		require.Greater(t, to.ReceivedBytes, uint64(30))
		require.EqualValues(t, 1, from.SendFailures)
		require.Equal(t, []raft.SnapshotStatus{raft.SnapshotFinish}, a7.raft.SnapshotReports())
		for _, m := range []*testmember.Member{ma, mb} {
			problems := m.Health().Problems
			require.Len(t, problems, 1)
			require.Equal(t, "snapshot_failed", problems[0].Kind)
			require.True(t, problems[0].Groups)
			require.Contains(t, problems[0].Cause, "group 8")
		}

		for _, told := range []*ended{&toldA, &toldB} {
			require.Len(t, told.all, 2)
			require.EqualValues(t, 7, told.all[0].Group)
			require.Empty(t, told.all[0].Error)
			require.EqualValues(t, 8, told.all[1].Group)
			require.NotEmpty(t, told.all[1].Error)
			require.Greater(t, len(told.progress), 5)
			require.EqualValues(t, 7, told.progress[0].Group)
		}
	})
}
