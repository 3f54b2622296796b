package snapshots_test

import (
	"bytes"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// careless is a Snapshotter that says that it has saved what it has not.
type careless struct {
	save     func(r io.Reader)
	discards atomic.Int32
}

func (c *careless) SaveDBFrom(r io.Reader, _ uint64) (int64, error) {
	c.save(r)
	return 0, nil
}

func (c *careless) DiscardDB(uint64, error) { c.discards.Add(1) }

type carelessResumer struct{ *careless }

func (c carelessResumer) PartialDB(snap.Transfer) (int64, uint32) { return 0, 0 }

func (c carelessResumer) ResumeDBFrom(r io.Reader, _ snap.Transfer, _ int64, _ func() (uint32, error)) (int64, error) {
	return c.SaveDBFrom(r, 0)
}

// TestSnapshotOfHalfADatabaseIsNotProcessed: neither where the connection broke and the Snapshotter does not say so, nor
// where it has not read the rest.
func TestSnapshotOfHalfADatabaseIsNotProcessed(t *testing.T) {
	const size = 2 << 20
	data := testmember.RandomBytes(size)
	tests := map[string]struct {
		save func(r io.Reader)
		cut  bool
		is   error // at the sender
	}{
		"cut, and read by ReadAll":   {func(r io.Reader) { _, _ = io.ReadAll(r) }, true, rafthttp.ErrSnapshotCut},
		"cut, and copied":            {func(r io.Reader) { _, _ = io.Copy(io.Discard, r) }, true, rafthttp.ErrSnapshotCut},
		"not read to its end":        {func(r io.Reader) { _, _ = io.CopyN(io.Discard, r, size-1) }, false, rafthttp.ErrSnapshotNotSaved},
		"read only at its beginning": {func(r io.Reader) { _, _ = io.CopyN(io.Discard, r, 1) }, false, rafthttp.ErrSnapshotNotSaved},
	}
	for name, tc := range tests {
		for _, stock := range []bool{false, true} {
			t.Run(name+map[bool]string{true: ", plain"}[stock], func(t *testing.T) {
				bubble.Test(t, func(t *testing.T) {
					c := &careless{save: tc.save}
					var s rafthttp.Snapshotter = carelessResumer{c}
					if stock {
						s = c
					}
					p := testmember.NewPair(t, nil, testmember.Receives(s))
					time.Sleep(time.Second)
					db := &testmember.Seekable{Reader: bytes.NewReader(data), OnRead: func(at int64) {
						if tc.cut && at == size/2 { // again and again, until the sender gives up
							p.Net.Reset("a", "b")
						}
					}}
					p.A.SendSnapshot(snap.NewMessage(testmember.MsgSnap(2, 1, 7), db, size))
					require.ErrorIs(t, <-p.Sent, tc.is)
					time.Sleep(time.Second)
					require.Empty(t, p.B.Recorder.Received())
					require.EqualValues(t, p.A.Status().Peers[0].LastSnapshot.Attempts, c.discards.Load())
				})
			})
		}
	}
}
