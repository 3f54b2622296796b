package groups_test

import (
	"errors"
	"io"
	"strings"
	"sync/atomic"
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

// backingOff are two nodes with group 7, of which the second has no room for databases while full is set.
type backingOff struct {
	a, b   joined
	ma, mb *testmember.Member
	full   atomic.Bool
}

func newBackingOff(t *testing.T, n *memnet.Network, backoff time.Duration) *backingOff {
	t.Helper()
	of := new(backingOff)
	of.full.Store(true)
	of.ma = testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) { tr.Raft, tr.SnapshotBackoff = rafthttp.NoRaft{}, backoff })
	of.mb = startNode(t, n, 2)
	join(t, of.ma, 8, nil).AddPeer(2, []string{testmember.URLOf(2)}) // keeps the node
	of.a, of.b = connect(t, of.ma, of.mb, 7, of)
	time.Sleep(time.Second)
	return of
}

// SaveDBFrom implements rafthttp.Snapshotter.
func (of *backingOff) SaveDBFrom(r io.Reader, _ uint64) (int64, error) {
	if of.full.Load() {
		return 0, errors.New("disk full")
	}
	return io.Copy(io.Discard, r)
}

func sendDatabase(a joined) *snap.Message {
	m := snap.NewMessage(testmember.MsgSnap(2, 1, 7), io.NopCloser(strings.NewReader("db")), 2)
	a.SendSnapshot(m)
	return m
}

// TestGroupSnapshotBackoff: a failure is reported after the back-off of its replica, which grows, and there is one report for each.
func TestGroupSnapshotBackoff(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		of := newBackingOff(t, n, time.Second)
		reports := of.a.raft.SnapshotReports
		var waits []time.Duration
		for i := range 8 {
			began := time.Now()
			require.False(t, <-sendDatabase(of.a).CloseNotify(), "not held back")
			synctest.Wait()
			for len(reports()) == i {
				require.True(t, of.a.Status().Replicas[0].SnapshotRetryAt.After(time.Now()))
				time.Sleep(100 * time.Millisecond)
				synctest.Wait()
			}
			require.Zero(t, of.a.Status().Replicas[0].SnapshotRetryAt)
			waits = append(waits, time.Since(began).Round(time.Second))
		}
		require.Equal(t, []time.Duration{1e9, 2e9, 4e9, 8e9, 16e9, 32e9, 60e9, 60e9}, waits)
		of.full.Store(false)
		require.True(t, <-sendDatabase(of.a).CloseNotify())
		synctest.Wait()
		require.Equal(t, raft.SnapshotFinish, reports()[8])
		of.full.Store(true)
		sendDatabase(of.a)
		time.Sleep(1100 * time.Millisecond)
		require.Len(t, reports(), 10, "it begins anew")
	})
}

// TestGroupSnapshotBackoffEndsEarly: reports that are held back come at once when the replica is removed or moved, the node becomes active
// or gets other URLs, and when the group or the Transport stops, before that returns.
func TestGroupSnapshotBackoffEndsEarly(t *testing.T) {
	all := map[string]func(*backingOff){
		"other URLs": func(of *backingOff) { of.a.UpdatePeer(2, []string{testmember.RefusingURL}) },
		"node active": func(of *backingOff) {
			of.b.RemovePeer(1)
			time.Sleep(10 * time.Second)
			of.b.AddPeer(1, []string{testmember.URLOf(1)})
			time.Sleep(2 * time.Second) // the first dial comes after up to 1.25 s
		},
	}
	for name, c := range ends {
		all[name] = func(of *backingOff) { c.end(of.a, of.ma) }
	}
	for name, end := range all {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				of := newBackingOff(t, n, 2*time.Minute)
				for range 3 {
					sendDatabase(of.a)
				}
				time.Sleep(time.Minute)
				require.Empty(t, of.a.raft.SnapshotReports())
				end(of)
				if !ends[name].joins {
					synctest.Wait()
				}
				require.Equal(t, []raft.SnapshotStatus{raft.SnapshotFailure, raft.SnapshotFailure, raft.SnapshotFailure}, of.a.raft.SnapshotReports())
				time.Sleep(3 * time.Minute)
				require.Len(t, of.a.raft.SnapshotReports(), 3)
			})
		})
	}
}

// TestGroupSnapshotOfARemovedReplicaIsNotHeldBack: one that is sent when the replica is removed or moved, which ends it, is reported at once,
// and so is what was held back for it.
func TestGroupSnapshotOfARemovedReplicaIsNotHeldBack(t *testing.T) {
	for name, c := range ends {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				of := newBackingOff(t, n, 2*time.Minute)
				sendDatabase(of.a)
				time.Sleep(time.Second)
				of.full.Store(false)
				of.a.SendSnapshot(snap.NewMessage(testmember.MsgSnap(2, 1, 7), testmember.Throttled(make([]byte, 1000), 1, time.Second), 1000))
				time.Sleep(10 * time.Second)
				require.Empty(t, of.a.raft.SnapshotReports())
				c.end(of.a, of.ma)
				time.Sleep(5 * time.Second) // until the connection is given up
				require.Equal(t, []raft.SnapshotStatus{raft.SnapshotFailure, raft.SnapshotFailure}, of.a.raft.SnapshotReports())
			})
		})
	}
}

// TestGroupSnapshotBackoffOfAMessage: a MsgSnap without a database that fails is held back as well, and not reported while another snapshot
// is under way, which raft would take the report for.
func TestGroupSnapshotBackoffOfAMessage(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		of := newBackingOff(t, n, 2*time.Second)
		of.b.Stop()
		of.a.Send([]*raftpb.Message{testmember.MsgSnap(2, 1, 5)})
		time.Sleep(time.Second)
		of.full.Store(false)
		join(t, of.mb, 7, saves(of)).AddPeer(1, []string{testmember.URLOf(1)})
		of.a.SendSnapshot(snap.NewMessage(testmember.MsgSnap(2, 1, 7), testmember.Throttled(make([]byte, 10), 1, time.Second), 10))
		time.Sleep(5 * time.Second)
		require.Empty(t, of.a.raft.SnapshotReports())
		time.Sleep(6 * time.Second)
		require.Equal(t, []raft.SnapshotStatus{raft.SnapshotFailure, raft.SnapshotFinish}, of.a.raft.SnapshotReports())
	})
}

// TestGroupSnapshotsFailAtOnce: without a back-off each failure is reported at once.
func TestGroupSnapshotsFailAtOnce(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		of := newBackingOff(t, n, 0)
		for i := range 5 {
			sendDatabase(of.a)
			time.Sleep(time.Second)
			require.Len(t, of.a.raft.SnapshotReports(), i+1)
		}
		require.Zero(t, of.a.Status().Replicas[0].SnapshotRetryAt)
	})
}
