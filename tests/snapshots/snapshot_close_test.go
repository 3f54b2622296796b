package snapshots_test

import (
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// TestSendSnapshotNeverClosesInline: the reader of a snapshot is not closed by the goroutine that calls SendSnapshot, which may
// hold a lock that Close takes, whatever becomes of the snapshot; and the call waits for nothing.
func TestSendSnapshotNeverClosesInline(t *testing.T) {
	failure := []raft.SnapshotStatus{raft.SnapshotFailure}
	tests := map[string]struct {
		prepare func(p *testmember.Pair) *rafthttp.Transport
		reports []raft.SnapshotStatus
	}{
		"before Start": {func(p *testmember.Pair) *rafthttp.Transport { return &rafthttp.Transport{ID: 9, Raft: p.A.Recorder} }, nil},
		"after Stop":   {func(p *testmember.Pair) *rafthttp.Transport { p.A.Stop(); return p.A.Transport }, nil},
		"during Stop": {func(p *testmember.Pair) *rafthttp.Transport {
			go p.A.Stop()
			synctest.Wait() // it waits for a Close
			return p.A.Transport
		}, failure}, // of the snapshot whose Close it waits for
		"unknown member": {func(p *testmember.Pair) *rafthttp.Transport { p.A.RemovePeer(2); return p.A.Transport }, failure},
		"remote": {func(p *testmember.Pair) *rafthttp.Transport {
			p.A.RemovePeer(2)
			p.A.AddRemote(2, []string{p.B.URL})
			return p.A.Transport
		}, failure},
		"paused peer":  {func(p *testmember.Pair) *rafthttp.Transport { p.A.CutPeer(2); return p.A.Transport }, failure},
		"size below 0": {func(p *testmember.Pair) *rafthttp.Transport { return p.A.Transport }, failure},
		"sent":         {func(p *testmember.Pair) *rafthttp.Transport { return p.A.Transport }, []raft.SnapshotStatus{raft.SnapshotFinish}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				p := testmember.NewPair(t, nil, testmember.Receives(testmember.SavesAll))
				unlocked := make(chan struct{})
				unlock := sync.OnceFunc(func() { close(unlocked) })
				defer unlock()
				if name == "during Stop" {
					p.A.SendSnapshot(snap.NewMessage(testmember.MsgSnap(9, 1, 7), &testmember.Database{Reader: testmember.ReaderFunc(noBytes), OnClose: func() { <-unlocked }}, 0))
				}
				tr := tc.prepare(p)
				db := &testmember.Database{Reader: testmember.ReaderFunc(noBytes), OnClose: func() { <-unlocked }} // as one that takes the caller's lock
				size := int64(0)
				if name == "size below 0" {
					size = -1
				}
				m := testmember.NewSnapshot(db, size)
				testmember.Soon(t, func() { tr.SendSnapshot(m) })
				time.Sleep(100 * time.Millisecond)
				require.EqualValues(t, 1, db.Closes.Load())
				require.Empty(t, m.CloseNotify())
				unlock()
				testmember.RequireEnd(t, m, db, name == "sent", p.A.Recorder, tc.reports...)
			})
		})
	}
}

func noBytes([]byte) (int, error) { return 0, io.EOF }
