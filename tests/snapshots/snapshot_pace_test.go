package snapshots_test

import (
	"bytes"
	"context"
	"io"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"
	"golang.org/x/time/rate"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// A change of the limit holds for what is under way, also for a transfer that
// waits for its turn by the old one.
func TestSetSnapshotRateLimit(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		const size = 10 << 20
		p := testmember.NewPair(t, func(tr *rafthttp.Transport) { tr.SnapshotRateLimit = 1 }, testmember.Receives(testmember.SavesAll))
		m := testmember.NewSnapshot(&testmember.Database{Reader: bytes.NewReader(testmember.RandomBytes(size))}, size)
		p.A.SendSnapshot(m)
		sent := func() float64 { return float64(p.A.Status().Peers[0].Snapshots[0].Bytes) }
		time.Sleep(time.Minute)
		require.Less(t, sent(), 64<<10+100.0, "a byte a second, but for the burst at first")
		for _, limit := range []rate.Limit{100_000, 10_000, 200_000} {
			require.NoError(t, p.A.SetSnapshotRateLimit(limit))
			before := sent()
			time.Sleep(20 * time.Second)
			require.InDelta(t, 20*float64(limit), sent()-before, 70_000, "up to a burst")
		}
		require.NoError(t, p.A.SetSnapshotRateLimit(0))
		start := time.Now()
		require.NoError(t, <-p.Sent)
		require.Zero(t, time.Since(start))
	})
}

func TestSetSnapshotRateLimitRefuses(t *testing.T) {
	a := testmember.Start(t, 1, nil)
	for _, limit := range []rate.Limit{-1, rate.Limit(math.NaN())} {
		var wrong *rafthttp.ConfigError
		require.ErrorAs(t, a.SetSnapshotRateLimit(limit), &wrong)
		require.Equal(t, "SnapshotRateLimit", wrong.Field)
	}
	require.NoError(t, a.SetSnapshotRateLimit(rate.Inf))
	require.Error(t, new(rafthttp.Transport).SetSnapshotRateLimit(1))
	a.Stop()
	require.NoError(t, a.SetSnapshotRateLimit(1))
}

// A stock receiver cuts after 5 s without a byte, whatever timeout and limit the
// sender has, and however many transfers share it.
func TestPacedSnapshotIsNeverTakenForDead(t *testing.T) {
	tests := []struct {
		name      string
		limit     rate.Limit
		timeout   time.Duration
		transfers int
		watched   time.Duration
	}{
		{"slow", 1000, 0, 1, 10 * time.Minute},
		{"long timeout", 1000, time.Hour, 1, 2 * time.Minute},
		{"many", 1000, time.Hour, 16, 2 * time.Minute},
		{"a byte a second for all", 1, 0, 4, 2 * time.Minute},
		{"next to nothing", 1e-9, time.Hour, 3, 2 * time.Minute},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				p := testmember.NewPair(t, func(tr *rafthttp.Transport) {
					tr.MaxSnapshots, tr.SnapshotRateLimit, tr.ReadTimeout = 16, tc.limit, tc.timeout
				}, nil)
				var (
					mu      sync.Mutex
					longest time.Duration
				)
				watch := testmember.Saver(func(r io.Reader, _ uint64) (int64, error) {
					last, b := time.Now(), make([]byte, 64<<10)
					for {
						n, err := r.Read(b)
						mu.Lock()
						longest = max(longest, time.Since(last))
						mu.Unlock()
						if last = time.Now(); err != nil || n == 0 {
							return 0, err
						}
					}
				})
				c := p.Start(t, "c", 3, func(tr *rafthttp.Transport) { tr.MaxSnapshots, tr.Snapshotter = 16, watch })
				p.A.AddPeer(3, []string{c.URL})
				const size = 1 << 20
				for i := range tc.transfers {
					p.A.SendSnapshot(snap.NewMessage(testmember.MsgSnap(3, 1, uint64(7+i)), &testmember.Database{Reader: bytes.NewReader(testmember.RandomBytes(size))}, size))
				}
				time.Sleep(tc.watched)
				require.Len(t, p.A.Status().Peers[1].Snapshots, tc.transfers, "all go on")
				mu.Lock()
				defer mu.Unlock()
				require.Less(t, longest, rafthttp.DefaultConnReadTimeout/2)
				require.Positive(t, longest)
			})
		})
	}
}

// While messages for a peer wait, its snapshot gives way, but not for good.
func TestSnapshotGivesWay(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		const size, bandwidth = 1 << 30, 8 << 20
		p := testmember.NewPair(t, nil, testmember.Receives(testmember.SavesAll))
		p.Net.Link("a", "b").SetBandwidth(bandwidth)
		time.Sleep(time.Second)
		m := testmember.NewSnapshot(&testmember.Database{Reader: zeros{}}, size)
		p.A.SendSnapshot(m)
		sent := func() int64 { return p.A.Status().Peers[0].Snapshots[0].Bytes }
		rateOver := func(d time.Duration) float64 {
			before := sent()
			time.Sleep(d)
			return float64(sent()-before) / d.Seconds()
		}
		require.InEpsilon(t, bandwidth, rateOver(4*time.Second), 0.1, "alone it has all there is")

		// Appends in excess of what goes through.
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go func() {
			for i := uint64(1); ctx.Err() == nil; i++ {
				p.A.Send([]*raftpb.Message{testmember.MsgApp(2, 1, i, make([]byte, 1<<20))})
				time.Sleep(50 * time.Millisecond)
			}
		}()
		time.Sleep(3 * time.Second)
		received := len(p.B.Recorder.Received())
		const busy = 8
		shared := rateOver(busy * time.Second)
		require.Less(t, shared, 0.45*bandwidth, "it gives way")
		require.Greater(t, shared, 0.1*bandwidth, "it goes on")
		require.Greater(t, float64(len(p.B.Recorder.Received())-received)/busy*(1<<20), 0.5*bandwidth, "the messages have the better part")
		stop()
		time.Sleep(16 * time.Second) // until all of them have gone
		require.InEpsilon(t, bandwidth, rateOver(4*time.Second), 0.1)
		p.A.RemovePeer(types.ID(2))
		require.False(t, <-m.CloseNotify())
	})
}

// zeros is a database without end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
