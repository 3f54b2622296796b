package snapshots_test

import (
	"bytes"
	"context"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// TestSnapshotAttemptsTakeTurns: a transfer that gave up its turn while the receiver
// installs waits for another one before it sends again.
func TestSnapshotAttemptsTakeTurns(t *testing.T) {
	const size = 8 << 20
	data := testmember.RandomBytes(size)
	dir, dir2 := t.TempDir(), t.TempDir()
	bubble.Test(t, func(t *testing.T) {
		p := testmember.NewPair(t, func(tr *rafthttp.Transport) { tr.MaxSnapshots = 1 }, func(tr *rafthttp.Transport) {
			tr.Snapshotter, tr.SnapshotAnswerTimeout = testmember.OpenStore(t, dir), time.Hour
		})
		c := p.Start(t, "c", 3, testmember.Receives(testmember.SavesAll))
		p.A.AddPeer(3, []string{c.URL})
		p.B.Recorder.OnProcess = func(ctx context.Context, _ *raftpb.Message) error {
			<-ctx.Done()
			return ctx.Err()
		}
		for _, host := range []string{"b", "c"} {
			p.Net.Link("a", host).SetBandwidth(1 << 20)
		}
		time.Sleep(time.Second)
		var lastRead [2]atomic.Int64
		db := func(i int) *testmember.Seekable {
			return &testmember.Seekable{Reader: bytes.NewReader(data), OnRead: func(int64) { lastRead[i].Store(time.Now().UnixNano()) }}
		}
		p.A.SendSnapshot(snap.NewMessage(testmember.MsgSnap(2, 1, 7), db(0), size))
		time.Sleep(15 * time.Second) // it is sent, and being installed
		p.A.SendSnapshot(snap.NewMessage(testmember.MsgSnap(3, 1, 7), db(1), size))
		time.Sleep(time.Second)
		p.Net.Host("b").Crash() // and comes back with another disk
		b := p.Start(t, "b", 2, testmember.Receives(testmember.OpenStore(t, dir2)))
		b.AddPeer(1, []string{p.A.URL})
		for range 20 {
			time.Sleep(500 * time.Millisecond)
			recent := func(i int) bool { return time.Now().UnixNano()-lastRead[i].Load() < int64(500*time.Millisecond) }
			require.False(t, recent(0) && recent(1), "two are sent at once, with MaxSnapshots 1")
		}
		require.NoError(t, <-p.Sent)
		require.NoError(t, <-p.Sent)
		p.B.Stop()
	})
}

// TestSnapshotIsDroppedFromTheQueueOnly: CutPeer drops what waits for its turn when it is
// called. What is under way may wait for another turn later: that is another matter, and
// dropped only by a CutPeer meanwhile, without another attempt.
func TestSnapshotIsDroppedFromTheQueueOnly(t *testing.T) {
	const size = 2 << 20
	data := testmember.RandomBytes(size)
	for _, later := range []bool{false, true} {
		for range 4 { // it was a matter of chance
			dir := t.TempDir()
			bubble.Test(t, func(t *testing.T) {
				store := testmember.OpenStore(t, dir)
				p := testmember.NewPair(t, func(tr *rafthttp.Transport) { tr.MaxSnapshots = 1 }, testmember.Receives(testmember.SavesAll))
				c := p.Start(t, "c", 3, testmember.Receives(&hanging{store, size / 2, func() { time.Sleep(time.Minute) }}))
				c.Server.Handler = unhijackable(c.Server.Handler)
				p.A.AddPeer(3, []string{c.URL})
				p.Net.Link("a", "c").SetBandwidth(256 << 10)
				time.Sleep(time.Second)
				p.A.SendSnapshot(snap.NewMessage(testmember.MsgSnap(3, 1, 7), &testmember.Seekable{Reader: bytes.NewReader(data)}, size))
				time.Sleep(time.Second)
				p.A.CutPeer(3)
				p.A.MendPeer(3)
				if !later {
					require.NoError(t, <-p.Sent)
					testmember.RequireSaved(t, store, 7, data)
					return
				}
				time.Sleep(20 * time.Second) // the receiver is still writing
				other := testmember.NewSnapshot(testmember.BlockingReader(nil), 10)
				p.A.SendSnapshot(other)
				time.Sleep(2 * time.Second) // which has the only turn
				attempts := c.Status().Receiving
				p.A.CutPeer(3)
				require.ErrorIs(t, <-p.Sent, rafthttp.ErrPaused)
				require.Equal(t, attempts, c.Status().Receiving)
				for _, st := range p.A.Status().Peers {
					if st.ID == 3 {
						require.Equal(t, 2, st.LastSnapshot.Attempts)
					}
				}
				time.Sleep(2 * time.Minute)
			})
		}
	}
}

// TestSnapshotHeadsThatWait: transfers that wait for their turn hold nothing in memory but
// their messages.
func TestSnapshotHeadsThatWait(t *testing.T) {
	const transfers, head = 12, 8 << 20
	bubble.Test(t, func(t *testing.T) {
		p := testmember.NewPair(t, func(tr *rafthttp.Transport) { tr.MaxSnapshots = 1 }, testmember.Receives(testmember.SavesAll))
		p.Net.Link("a", "b").SetBandwidth(1 << 20)
		time.Sleep(time.Second)
		data := make([]byte, head)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for i := range uint64(transfers) {
			m := testmember.MsgSnap(2, 1, 7+i/2)
			m.Snapshot.Data = data
			p.A.SendSnapshot(snap.NewMessage(m, nil, 0))
		}
		time.Sleep(2 * time.Second)
		runtime.GC()
		runtime.ReadMemStats(&after)
		require.Less(t, int64(after.HeapAlloc)-int64(before.HeapAlloc), int64(5*head), "of one at each end, and what is on its way")
	})
}

// TestSnapshotProgressAfterALoss: what the receiver has gained since it lost everything is
// progress, also where it had more before.
func TestSnapshotProgressAfterALoss(t *testing.T) {
	const size, between = 8 << 20, 700 << 10
	data := testmember.RandomBytes(size)
	dir, dir2 := t.TempDir(), t.TempDir()
	bubble.Test(t, func(t *testing.T) {
		p := testmember.NewPair(t, nil, testmember.Receives(testmember.OpenStore(t, dir)))
		p.Net.Link("a", "b").SetBandwidth(4 << 20)
		time.Sleep(time.Second)
		resets := 0
		reset := func() {
			resets++
			time.Sleep(300 * time.Millisecond) // what was written has arrived
			p.Net.Reset("a", "b")
		}
		lost := false
		next := int64(5 << 20)
		db := &testmember.Seekable{Reader: bytes.NewReader(data)}
		db.OnRead = func(at int64) {
			switch {
			case !lost && resets > 0 && at >= 6<<20:
				lost, next = true, between
				p.Net.Host("b").Crash()
				p.Start(t, "b", 2, testmember.Receives(testmember.OpenStore(t, dir2))).AddPeer(1, []string{p.A.URL})
			case at >= next && (lost || resets == 0):
				next += between
				reset()
			}
		}
		p.A.SendSnapshot(snap.NewMessage(testmember.MsgSnap(2, 1, 7), db, size))
		require.NoError(t, <-p.Sent)
		require.Greater(t, resets, 10)
	})
}

// TestSnapshotOfAReceiverThatKeepsLosingIt: that is no progress, however often it begins anew.
func TestSnapshotOfAReceiverThatKeepsLosingIt(t *testing.T) {
	const size = 8 << 20
	data := testmember.RandomBytes(size)
	dirs := make([]string, 40)
	for i := range dirs {
		dirs[i] = t.TempDir()
	}
	bubble.Test(t, func(t *testing.T) {
		p := testmember.NewPair(t, nil, testmember.Receives(testmember.OpenStore(t, t.TempDir())))
		p.Net.Link("a", "b").SetBandwidth(4 << 20)
		time.Sleep(time.Second)
		events := 0
		db := &testmember.Seekable{Reader: bytes.NewReader(data)}
		high := int64(0)
		db.OnRead = func(at int64) {
			if high = min(high, at); at-high < 1<<20 || events == len(dirs) {
				return
			}
			high = at
			time.Sleep(300 * time.Millisecond)
			if events++; events%2 == 1 { // the next attempt finds a part
				p.Net.Reset("a", "b")
				return
			}
			high = 0
			p.Net.Host("b").Crash()
			p.Start(t, "b", 2, testmember.Receives(testmember.OpenStore(t, dirs[events-1]))).AddPeer(1, []string{p.A.URL})
		}
		p.A.SendSnapshot(snap.NewMessage(testmember.MsgSnap(2, 1, 7), db, size))
		require.Error(t, <-p.Sent)
		require.Less(t, events, 15)
	})
}
