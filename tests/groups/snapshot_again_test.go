package groups_test

import (
	"bytes"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// TestGroupSnapshotIsOpenedAgain: databases whose readers cannot seek, of many nodes, ask for the one place of a receiver at the same time.
// Those that can be opened again wait until it is free, and none is open twice.
func TestGroupSnapshotIsOpenedAgain(t *testing.T) {
	const senders = 4
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		receiver := types.ID(senders + 1)
		mb := testmember.StartSimulated(t, n, receiver, func(tr *rafthttp.Transport) { tr.Raft, tr.MaxSnapshots = rafthttp.NoRaft{}, 1 })
		text := bytes.Repeat([]byte("database"), 100)
		var saving, opens, open, most atomic.Int32
		var all []*snap.Message
		var as []joined
		for id := range types.ID(senders) {
			id++
			a := join(t, startNode(t, n, id), uint64(id), nil)
			a.AddPeer(receiver, []string{testmember.URLOf(receiver)})
			as = append(as, a)
			join(t, mb, uint64(id), saves(testmember.Saver(func(r io.Reader, _ uint64) (int64, error) {
				most.Store(max(most.Load(), saving.Add(1)))
				defer saving.Add(-1)
				got, err := io.ReadAll(r)
				require.Equal(t, err == nil, bytes.Equal(got, text))
				return int64(len(got)), err
			})))
			n.Link(testmember.HostOf(id), testmember.HostOf(receiver)).SetDelay(100 * time.Millisecond)
			m := snap.NewMessage(testmember.MsgSnap(receiver, id, 7), nil, int64(len(text)))
			mine := new(atomic.Int32)
			m.Open = func() (io.ReadCloser, error) {
				opens.Add(1)
				open.Add(1)
				require.EqualValues(t, 1, mine.Add(1))
				db := testmember.Throttled(text, 8, 50*time.Millisecond)
				db.OnClose = func() { mine.Add(-1); open.Add(-1) }
				return db, nil
			}
			all = append(all, m)
		}
		time.Sleep(time.Second)
		for i, a := range as {
			a.SendSnapshot(all[i])
		}
		for i, m := range all {
			require.True(t, <-m.CloseNotify(), i)
			time.Sleep(time.Second)
			require.Equal(t, []raft.SnapshotStatus{raft.SnapshotFinish}, as[i].raft.SnapshotReports())
		}
		require.EqualValues(t, 1, most.Load())
		require.Greater(t, opens.Load(), int32(senders))
		require.Zero(t, open.Load())
	})
}
