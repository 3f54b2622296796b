package snapshots_test

import (
	"bytes"
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"golang.org/x/time/rate"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/snap"
)

func TestSnapshotNotSent(t *testing.T) {
	failure := []raft.SnapshotStatus{raft.SnapshotFailure}
	tests := []struct {
		name    string
		prepare func(p *testmember.Pair) *rafthttp.Transport
		reports []raft.SnapshotStatus
	}{
		{"unknown peer", func(p *testmember.Pair) *rafthttp.Transport { p.A.RemovePeer(2); return p.A.Transport }, failure},
		{"remote", func(p *testmember.Pair) *rafthttp.Transport {
			p.A.RemovePeer(2)
			p.A.AddRemote(2, []string{p.B.URL})
			return p.A.Transport
		}, failure},
		{"paused peer", func(p *testmember.Pair) *rafthttp.Transport { p.A.CutPeer(2); return p.A.Transport }, failure},
		{"paused transport", func(p *testmember.Pair) *rafthttp.Transport { p.A.Pause(); return p.A.Transport }, failure},
		{"paused receiver", func(p *testmember.Pair) *rafthttp.Transport { p.B.Pause(); return p.A.Transport }, failure},
		{"before Start", func(p *testmember.Pair) *rafthttp.Transport { return &rafthttp.Transport{ID: 9, Raft: p.A.Recorder} }, nil},
		{"after Stop", func(p *testmember.Pair) *rafthttp.Transport { p.A.Stop(); return p.A.Transport }, nil},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				p := testmember.NewPair(t, nil, testmember.Receives(testmember.SavesAll))
				tr := tc.prepare(p)
				db := &testmember.Database{Reader: bytes.NewReader(testmember.RandomBytes(10))}
				m := testmember.NewSnapshot(db, 10)
				tr.SendSnapshot(m)
				testmember.RequireEnd(t, m, db, false, p.A.Recorder, tc.reports...)
				require.Empty(t, p.B.Recorder.Received())
			})
		})
	}
}

// A database that is still saved, or a message still processed, when the sender's
// patience with bodies is over is no failure: only SnapshotAnswerTimeout is. Behind
// a listener with deadlines the request's context has ended by then.
func TestSnapshotTakenSlowly(t *testing.T) {
	const slow = 4 * rafthttp.DefaultConnReadTimeout
	for _, deadlines := range []bool{false, true} {
		bubble.Test(t, func(t *testing.T) {
			p := testmember.NewPair(t, nil, nil)
			p.Deadlines = deadlines
			c := p.Start(t, "c", 3, testmember.Receives(testmember.Saver(func(r io.Reader, _ uint64) (int64, error) {
				n, err := io.Copy(io.Discard, r)
				time.Sleep(slow)
				return n, err
			})))
			c.Recorder.OnProcess = func(ctx context.Context, _ *raftpb.Message) error {
				time.Sleep(slow)
				return ctx.Err()
			}
			p.A.AddPeer(3, []string{c.URL})
			db := &testmember.Database{Reader: bytes.NewReader(testmember.RandomBytes(1 << 20))}
			m := snap.NewMessage(testmember.MsgSnap(3, 1, 7), db, 1<<20)
			start := time.Now()
			p.A.SendSnapshot(m)
			require.NoError(t, <-p.Sent)
			require.Equal(t, 2*slow, time.Since(start))
			testmember.RequireEnd(t, m, db, true, p.A.Recorder, raft.SnapshotFinish)
		})
	}
}

func TestSnapshotsWaitTheirTurn(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		const n, each = 5, 10 * time.Second // each longer than any timeout
		p := testmember.NewPair(t, func(tr *rafthttp.Transport) {
			tr.MaxSnapshots, tr.ReadTimeout, tr.SnapshotAnswerTimeout = 1, time.Second, time.Second
		}, testmember.Receives(testmember.SavesAll))
		start := time.Now()
		var all []*snap.Message
		for i := range uint64(n) {
			const size = 100
			left := size
			m := snap.NewMessage(testmember.MsgSnap(2, 1, 7+i), &testmember.Database{Reader: testmember.ReaderFunc(func(b []byte) (int, error) {
				if left == 0 {
					return 0, io.EOF
				}
				time.Sleep(each / size)
				left--
				b[0] = 'x'
				return 1, nil
			})}, size)
			all = append(all, m)
			p.A.SendSnapshot(m)
		}
		time.Sleep(time.Second)
		require.Len(t, p.A.Status().Peers[0].Snapshots, n, "waiting and under way")
		require.Len(t, p.B.Status().Receiving, 1)
		for range n {
			require.NoError(t, <-p.Sent)
		}
		require.Equal(t, n*each, time.Since(start))
		for _, m := range all {
			require.True(t, <-m.CloseNotify())
		}
		synctest.Wait()
		require.Len(t, p.A.Recorder.SnapshotReports(), n)
		require.Empty(t, p.A.Status().Peers[0].Snapshots)
		require.Empty(t, p.B.Status().Receiving)
	})
}

func TestSnapshotsOfOnePeerAreBounded(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		p := testmember.NewPair(t, func(tr *rafthttp.Transport) { tr.MaxSnapshots = 1 }, testmember.Receives(testmember.SavesAll))
		const waiting, over = 16, 3
		var dbs []*testmember.Database
		var all []*snap.Message
		for i := range uint64(waiting + over) {
			db := testmember.BlockingReader(nil)
			m := snap.NewMessage(testmember.MsgSnap(2, 1, 7+i), db, 10)
			dbs, all = append(dbs, db), append(all, m)
			p.A.SendSnapshot(m)
		}
		for range over {
			require.ErrorIs(t, <-p.Sent, rafthttp.ErrQueueFull)
		}
		p.A.Stop()
		for i, m := range all {
			require.False(t, <-m.CloseNotify())
			require.EqualValues(t, 1, dbs[i].Closes.Load())
		}
		require.Len(t, p.A.Recorder.SnapshotReports(), waiting+over)
	})
}

func TestSnapshotRefusedOverMax(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		p := testmember.NewPair(t, nil, func(tr *rafthttp.Transport) { tr.MaxSnapshots, tr.Snapshotter = 1, testmember.SavesAll })
		c := p.Start(t, "c", 3, nil)
		c.AddPeer(2, []string{p.B.URL})
		first := testmember.NewSnapshot(testmember.BlockingReader(nil), 10)
		c.SendSnapshot(first)
		synctest.Wait()

		db := &testmember.Database{Reader: bytes.NewReader(testmember.RandomBytes(10))}
		m := testmember.NewSnapshot(db, 10)
		p.A.SendSnapshot(m)
		var status *rafthttp.StatusError
		require.ErrorAs(t, <-p.Sent, &status)
		require.Equal(t, 503, status.Code)
		testmember.RequireEnd(t, m, db, false, p.A.Recorder, raft.SnapshotFailure)

		again := testmember.NewSnapshot(&testmember.Database{Reader: bytes.NewReader(testmember.RandomBytes(10))}, 10)
		p.A.SendSnapshot(again)
		require.NoError(t, <-p.Sent, "the first has ended")
		require.True(t, <-again.CloseNotify())
	})
}

func TestSnapshotRateLimit(t *testing.T) {
	const burst = 64 << 10
	tests := []struct {
		name      string
		rate      rate.Limit
		transfers int
		size      int64
	}{
		{"one", 100_000, 1, 1_000_000},
		{"slow", 100, 1, burst + 5_000},
		{"many share it", 1000, 16, burst / 4},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				max := func(tr *rafthttp.Transport) { tr.MaxSnapshots = 16 }
				p := testmember.NewPair(t, func(tr *rafthttp.Transport) {
					max(tr)
					tr.SnapshotRateLimit = tc.rate
				}, func(tr *rafthttp.Transport) {
					max(tr)
					tr.Snapshotter = testmember.SavesAll
				})
				start := time.Now()
				for i := range tc.transfers {
					db := &testmember.Database{Reader: bytes.NewReader(testmember.RandomBytes(int(tc.size)))}
					p.A.SendSnapshot(snap.NewMessage(testmember.MsgSnap(2, 1, uint64(7+i)), db, tc.size))
				}
				for range tc.transfers {
					require.NoError(t, <-p.Sent)
				}
				paced := float64(tc.size*int64(tc.transfers) - burst)
				want := time.Duration(paced / float64(tc.rate) * float64(time.Second))
				require.InDelta(t, want.Seconds(), time.Since(start).Seconds(), 1)
			})
		})
	}
}

// The first transfer ends by the URL that is down, the next takes the other one.
func TestSnapshotMovesToNextURL(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		// Streams would move on as well.
		p := testmember.NewPair(t, func(tr *rafthttp.Transport) { tr.DialRetryFrequency = 1e-4 }, testmember.Receives(testmember.SavesAll))
		p.A.RemovePeer(2)
		p.A.AddPeer(2, []string{"http://b:1", p.B.URL})
		synctest.Wait()
		var ok bool
		for range 2 {
			p.A.SendSnapshot(testmember.NewSnapshot(&testmember.Database{Reader: bytes.NewReader(testmember.RandomBytes(10))}, 10))
			if ok = <-p.Sent == nil; ok {
				break
			}
		}
		require.True(t, ok)
	})
}

// A reader that fails says nothing about the peer, which posts show to be there.
func TestSnapshotReaderIsNotThePeer(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		p := testmember.NewPair(t, nil, testmember.Receives(testmember.SavesAll))
		p.B.RemovePeer(1) // so that it dials no streams and grants none
		time.Sleep(time.Minute)
		require.Zero(t, p.A.ActivePeers())
		p.A.Send(testmember.Heartbeats(1, 2, 1))
		synctest.Wait()
		require.Equal(t, 1, p.A.ActivePeers())
		p.A.SendSnapshot(testmember.NewSnapshot(&testmember.Database{Reader: bytes.NewReader(nil)}, 10))
		require.ErrorIs(t, <-p.Sent, rafthttp.ErrSnapshotSize)
		require.Equal(t, 1, p.A.ActivePeers())
	})
}

func TestSnapshotTo(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		p := testmember.NewPair(t, nil, testmember.Receives(testmember.SavesAll))
		for _, to := range []types.ID{0, 1, 99} { // nobody, itself, a stranger
			m := snap.NewMessage(testmember.MsgSnap(to, 1, 7), nil, 0)
			p.A.SendSnapshot(m)
			require.False(t, <-m.CloseNotify())
		}
		m := snap.NewMessage(testmember.MsgSnap(2, 1, 7), nil, 0)
		p.A.SendSnapshot(m)
		require.True(t, <-m.CloseNotify(), "without a database")
		synctest.Wait()
		require.Len(t, p.A.Recorder.SnapshotReports(), 4)
	})
}
