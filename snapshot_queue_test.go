package rafthttp_test

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
	"github.com/seed-4d73690b/rafthttp/snap"
)

func TestSnapshotNotSent(t *testing.T) {
	failure := []raft.SnapshotStatus{raft.SnapshotFailure}
	tests := []struct {
		name    string
		prepare func(p *pair) *rafthttp.Transport
		reports []raft.SnapshotStatus
	}{
		{"unknown peer", func(p *pair) *rafthttp.Transport { p.a.RemovePeer(2); return p.a.Transport }, failure},
		{"remote", func(p *pair) *rafthttp.Transport {
			p.a.RemovePeer(2)
			p.a.AddRemote(2, []string{p.b.url})
			return p.a.Transport
		}, failure},
		{"paused peer", func(p *pair) *rafthttp.Transport { p.a.CutPeer(2); return p.a.Transport }, failure},
		{"paused transport", func(p *pair) *rafthttp.Transport { p.a.Pause(); return p.a.Transport }, failure},
		{"paused receiver", func(p *pair) *rafthttp.Transport { p.b.Pause(); return p.a.Transport }, failure},
		{"before Start", func(p *pair) *rafthttp.Transport { return &rafthttp.Transport{ID: 9, Raft: p.a.raft} }, nil},
		{"after Stop", func(p *pair) *rafthttp.Transport { p.a.Stop(); return p.a.Transport }, nil},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				p := newPair(t, nil, receives(savesAll))
				tr := tc.prepare(p)
				db := &database{Reader: bytes.NewReader(randomBytes(10))}
				m := newSnapshot(db, 10)
				tr.SendSnapshot(m)
				requireEnd(t, m, db, false, p.a.raft, tc.reports...)
				require.Empty(t, p.b.raft.received())
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
			p := newPair(t, nil, nil)
			p.deadlines = deadlines
			c := p.start(t, "c", 3, receives(saver(func(r io.Reader, _ uint64) (int64, error) {
				n, err := io.Copy(io.Discard, r)
				time.Sleep(slow)
				return n, err
			})))
			c.raft.process = func(ctx context.Context, _ *raftpb.Message) error {
				time.Sleep(slow)
				return ctx.Err()
			}
			p.a.AddPeer(3, []string{c.url})
			db := &database{Reader: bytes.NewReader(randomBytes(1 << 20))}
			m := snap.NewMessage(msgSnap(3, 1, 7), db, 1<<20)
			start := time.Now()
			p.a.SendSnapshot(m)
			require.NoError(t, <-p.sent)
			require.Equal(t, 2*slow, time.Since(start))
			requireEnd(t, m, db, true, p.a.raft, raft.SnapshotFinish)
		})
	}
}

func TestSnapshotsWaitTheirTurn(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		const n, each = 5, 10 * time.Second // each longer than any timeout
		p := newPair(t, func(tr *rafthttp.Transport) {
			tr.MaxSnapshots, tr.ReadTimeout, tr.SnapshotAnswerTimeout = 1, time.Second, time.Second
		}, receives(savesAll))
		start := time.Now()
		var all []*snap.Message
		for i := range uint64(n) {
			const size = 100
			left := size
			m := snap.NewMessage(msgSnap(2, 1, 7+i), &database{Reader: readerFunc(func(b []byte) (int, error) {
				if left == 0 {
					return 0, io.EOF
				}
				time.Sleep(each / size)
				left--
				b[0] = 'x'
				return 1, nil
			})}, size)
			all = append(all, m)
			p.a.SendSnapshot(m)
		}
		time.Sleep(time.Second)
		require.Len(t, p.a.Status().Peers[0].Snapshots, n, "waiting and under way")
		require.Len(t, p.b.Status().Receiving, 1)
		for range n {
			require.NoError(t, <-p.sent)
		}
		require.Equal(t, n*each, time.Since(start))
		for _, m := range all {
			require.True(t, <-m.CloseNotify())
		}
		synctest.Wait()
		require.Len(t, p.a.raft.snapshotReports(), n)
		require.Empty(t, p.a.Status().Peers[0].Snapshots)
		require.Empty(t, p.b.Status().Receiving)
	})
}

func TestSnapshotsOfOnePeerAreBounded(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		p := newPair(t, func(tr *rafthttp.Transport) { tr.MaxSnapshots = 1 }, receives(savesAll))
		const waiting, over = 16, 3
		var dbs []*database
		var all []*snap.Message
		for i := range uint64(waiting + over) {
			db := blockingReader(nil)
			m := snap.NewMessage(msgSnap(2, 1, 7+i), db, 10)
			dbs, all = append(dbs, db), append(all, m)
			p.a.SendSnapshot(m)
		}
		for range over {
			require.ErrorIs(t, <-p.sent, rafthttp.ErrQueueFull)
		}
		p.a.Stop()
		for i, m := range all {
			require.False(t, <-m.CloseNotify())
			require.EqualValues(t, 1, dbs[i].closes.Load())
		}
		require.Len(t, p.a.raft.snapshotReports(), waiting+over)
	})
}

func TestSnapshotRefusedOverMax(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		p := newPair(t, nil, func(tr *rafthttp.Transport) { tr.MaxSnapshots, tr.Snapshotter = 1, savesAll })
		c := p.start(t, "c", 3, nil)
		c.AddPeer(2, []string{p.b.url})
		first := newSnapshot(blockingReader(nil), 10)
		c.SendSnapshot(first)
		synctest.Wait()

		db := &database{Reader: bytes.NewReader(randomBytes(10))}
		m := newSnapshot(db, 10)
		p.a.SendSnapshot(m)
		var status *rafthttp.StatusError
		require.ErrorAs(t, <-p.sent, &status)
		require.Equal(t, 503, status.Code)
		requireEnd(t, m, db, false, p.a.raft, raft.SnapshotFailure)

		again := newSnapshot(&database{Reader: bytes.NewReader(randomBytes(10))}, 10)
		p.a.SendSnapshot(again)
		require.NoError(t, <-p.sent, "the first has ended")
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
				p := newPair(t, func(tr *rafthttp.Transport) {
					max(tr)
					tr.SnapshotRateLimit = tc.rate
				}, func(tr *rafthttp.Transport) {
					max(tr)
					tr.Snapshotter = savesAll
				})
				start := time.Now()
				for i := range tc.transfers {
					db := &database{Reader: bytes.NewReader(randomBytes(int(tc.size)))}
					p.a.SendSnapshot(snap.NewMessage(msgSnap(2, 1, uint64(7+i)), db, tc.size))
				}
				for range tc.transfers {
					require.NoError(t, <-p.sent)
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
		p := newPair(t, func(tr *rafthttp.Transport) { tr.DialRetryFrequency = 1e-4 }, receives(savesAll))
		p.a.RemovePeer(2)
		p.a.AddPeer(2, []string{"http://b:1", p.b.url})
		synctest.Wait()
		var ok bool
		for range 2 {
			p.a.SendSnapshot(newSnapshot(&database{Reader: bytes.NewReader(randomBytes(10))}, 10))
			if ok = <-p.sent == nil; ok {
				break
			}
		}
		require.True(t, ok)
	})
}

// A reader that fails says nothing about the peer, which posts show to be there.
func TestSnapshotReaderIsNotThePeer(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		p := newPair(t, nil, receives(savesAll))
		p.b.RemovePeer(1) // so that it dials no streams and grants none
		time.Sleep(time.Minute)
		require.Zero(t, p.a.ActivePeers())
		p.a.Send(heartbeats(1, 2, 1))
		synctest.Wait()
		require.Equal(t, 1, p.a.ActivePeers())
		p.a.SendSnapshot(newSnapshot(&database{Reader: bytes.NewReader(nil)}, 10))
		require.ErrorIs(t, <-p.sent, rafthttp.ErrSnapshotSize)
		require.Equal(t, 1, p.a.ActivePeers())
	})
}

func TestSnapshotTo(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		p := newPair(t, nil, receives(savesAll))
		for _, to := range []types.ID{0, 1, 99} { // nobody, itself, a stranger
			m := snap.NewMessage(msgSnap(to, 1, 7), nil, 0)
			p.a.SendSnapshot(m)
			require.False(t, <-m.CloseNotify())
		}
		m := snap.NewMessage(msgSnap(2, 1, 7), nil, 0)
		p.a.SendSnapshot(m)
		require.True(t, <-m.CloseNotify(), "without a database")
		synctest.Wait()
		require.Len(t, p.a.raft.snapshotReports(), 4)
	})
}
