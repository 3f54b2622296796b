package rafthttp_test

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
	"github.com/seed-4d73690b/rafthttp/snap"
)

// TestSendSnapshotNeverClosesInline: the reader of a snapshot is not closed by the goroutine that calls SendSnapshot, which may
// hold a lock that Close takes, whatever becomes of the snapshot; and the call waits for nothing.
func TestSendSnapshotNeverClosesInline(t *testing.T) {
	failure := []raft.SnapshotStatus{raft.SnapshotFailure}
	tests := map[string]struct {
		prepare func(p *pair) *rafthttp.Transport
		reports []raft.SnapshotStatus
	}{
		"before Start": {func(p *pair) *rafthttp.Transport { return &rafthttp.Transport{ID: 9, Raft: p.a.raft} }, nil},
		"after Stop":   {func(p *pair) *rafthttp.Transport { p.a.Stop(); return p.a.Transport }, nil},
		"during Stop": {func(p *pair) *rafthttp.Transport {
			go p.a.Stop()
			synctest.Wait() // it waits for a Close
			return p.a.Transport
		}, failure}, // of the snapshot whose Close it waits for
		"unknown member": {func(p *pair) *rafthttp.Transport { p.a.RemovePeer(2); return p.a.Transport }, failure},
		"remote": {func(p *pair) *rafthttp.Transport {
			p.a.RemovePeer(2)
			p.a.AddRemote(2, []string{p.b.url})
			return p.a.Transport
		}, failure},
		"paused peer":  {func(p *pair) *rafthttp.Transport { p.a.CutPeer(2); return p.a.Transport }, failure},
		"size below 0": {func(p *pair) *rafthttp.Transport { return p.a.Transport }, failure},
		"sent":         {func(p *pair) *rafthttp.Transport { return p.a.Transport }, []raft.SnapshotStatus{raft.SnapshotFinish}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				p := newPair(t, nil, receives(savesAll))
				unlocked := make(chan struct{})
				unlock := sync.OnceFunc(func() { close(unlocked) })
				defer unlock()
				if name == "during Stop" {
					p.a.SendSnapshot(snap.NewMessage(msgSnap(9, 1, 7), &database{Reader: readerFunc(noBytes), onClose: func() { <-unlocked }}, 0))
				}
				tr := tc.prepare(p)
				db := &database{Reader: readerFunc(noBytes), onClose: func() { <-unlocked }} // as one that takes the caller's lock
				size := int64(0)
				if name == "size below 0" {
					size = -1
				}
				m := newSnapshot(db, size)
				soon(t, func() { tr.SendSnapshot(m) })
				time.Sleep(100 * time.Millisecond)
				require.EqualValues(t, 1, db.closes.Load())
				require.Empty(t, m.CloseNotify())
				unlock()
				requireEnd(t, m, db, name == "sent", p.a.raft, tc.reports...)
			})
		})
	}
}

func noBytes([]byte) (int, error) { return 0, io.EOF }
