package followers_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
)

// slowFollowers are the cases of TestSlowFollower. To run one: go test -run
// 'TestSlowFollower/slow-line$' -v ./tests/followers.
var slowFollowers = []slowFollower{
	{
		name: "slow-line", raced: true, full: true, what: "line of 20 MB/s, 40 ms",
		entry: 1 << 20, total: 400 << 20, line: slowLine,
	},
	{
		name: "slow-line-64K", raced: true, what: "the same, entries of 64 KiB",
		entry: 64 << 10, total: 200 << 20, line: slowLine,
	},
	{
		name: "slow-line-4K", what: "the same, entries of 4 KiB",
		entry: 4 << 10, total: 200 << 20, line: slowLine,
	},
	{
		name: "slow-line-steady", what: "the same, 30 MB/s are proposed",
		entry: 256 << 10, total: 400 << 20, line: slowLine, pace: 30e6,
	},
	{
		name: "slow-line-4096", what: "the same, MaxInflightMsgs 4096",
		entry: 64 << 10, total: 400 << 20, line: slowLine,
		tune: func(cfg *raft.Config) { cfg.MaxInflightMsgs = 4096 },
	},
	{
		name: "slow-line-16", what: "the same, MaxInflightMsgs 16, which never fills a queue",
		entry: 1 << 20, total: 100 << 20, line: slowLine,
		tune: func(cfg *raft.Config) { cfg.MaxInflightMsgs = 16 },
	},
	{
		name: "slow-line-large-appends", what: "the same, MaxSizePerMsg 16 MiB",
		entry: 1 << 20, total: 200 << 20, line: slowLine,
		tune: func(cfg *raft.Config) { cfg.MaxSizePerMsg = 16 << 20 },
	},
	{
		name: "slow-line-huge-appends", what: "the same, MaxSizePerMsg 64 MiB",
		entry: 1 << 20, total: 400 << 20, line: slowLine,
		tune: func(cfg *raft.Config) { cfg.MaxSizePerMsg = 64 << 20 },
	},
	{
		name: "slow-line-small-appends", what: "the same, MaxSizePerMsg 4 KiB, MaxInflightMsgs 16384",
		entry: 4 << 10, total: 100 << 20, line: slowLine,
		tune: func(cfg *raft.Config) { cfg.MaxInflightMsgs, cfg.MaxSizePerMsg = 16384, 4<<10 },
	},
	{
		name: "slow-line-shared-bound", raced: true, what: "the same, MaxQueuedBytes 32 MiB",
		entry: 256 << 10, total: 200 << 20, line: slowLine,
		tuneTransport: func(tr *rafthttp.Transport) { tr.MaxQueuedBytes = 32 << 20 },
	},
	{
		name: "slow-line-down", what: "the same, was down, 150 MiB behind",
		entry: 1 << 20, total: 150 << 20, line: slowLine, down: true,
	},
	{
		name: "near-down", raced: true, what: "was down, near, 400 MiB behind",
		entry: 1 << 20, total: 400 << 20, line: line{rate: 1e9, window: 4 << 20}, down: true,
	},
	{
		name: "very-slow-line", what: "line of 2 MB/s, 40 ms",
		entry: 1 << 20, total: 100 << 20, line: line{2e6, 40 * time.Millisecond, 256 << 10},
	},
	{
		name: "very-slow-line-small-queue", what: "the same, SendQueueBytes 1 MiB",
		entry: 64 << 10, total: 50 << 20, line: line{2e6, 40 * time.Millisecond, 256 << 10},
		tuneTransport: func(tr *rafthttp.Transport) { tr.SendQueueBytes = 1 << 20 },
	},
	{
		name: "slowest-line-cut", what: "line of 500 KB/s, 40 ms, msgapp cut once",
		entry: 64 << 10, total: 60 << 20, line: line{500e3, 40 * time.Millisecond, 256 << 10}, cut: true,
	},
	{
		name: "slowest-line-down", what: "the same, was down, 50 MiB behind",
		entry: 1 << 20, total: 50 << 20, line: line{500e3, 40 * time.Millisecond, 256 << 10}, down: true,
	},
	{
		name: "slow-process", raced: true, what: "Process takes as long as 50 MB/s",
		entry: 1 << 20, total: 400 << 20, line: nearLine, process: slowProcess{rate: 50e6},
	},
	{
		name: "far", what: "line of 100 MB/s, 150 ms",
		entry: 1 << 20, total: 400 << 20, line: farLine,
	},
	{
		name: "far-small-queue", what: "the same, SendQueueBytes 8 MiB",
		entry: 1 << 20, total: 200 << 20, line: farLine,
		tuneTransport: func(tr *rafthttp.Transport) { tr.SendQueueBytes = 8 << 20 },
	},
	{
		name: "stalls", raced: true, what: "Process stalls for 4 s now and then, line of 100 MB/s",
		entry: 1 << 20, total: 600 << 20, line: line{100e6, time.Millisecond, 4 << 20},
		process: slowProcess{every: 256 << 20, stall: 4 * time.Second},
	},
	{
		name: "far-stalls", what: "the same, line of 100 MB/s, 150 ms",
		entry: 1 << 20, total: 600 << 20, line: farLine,
		process: slowProcess{every: 256 << 20, stall: 4 * time.Second},
	},
}

// TestSlowFollowerBursts: bursts that no queue holds are committed nearly as
// quickly as with queues that hold everything.
func TestSlowFollowerBursts(t *testing.T) {
	testmember.SkipWithTinyBuffers(t)
	s := slowFollower{entry: 1 << 20, line: line{600e6, 200 * time.Microsecond, 4 << 20}}
	rounds, n := 2, 200
	if testmember.RaceEnabled {
		s, rounds, n = s.lighter(racedLightness), 1, 128
	}
	commits := func(t *testing.T, tune func(*rafthttp.Transport)) (perSecond float64, p99 time.Duration) {
		bubble.Test(t, func(t *testing.T) {
			c := newRaftCluster(t, s.line.window, s.tune, tune)
			c.connect(s.line, s.line)
			perSecond, p99 = c.leader().bursts(t, rounds, n, s.entry)
		})
		return perSecond, p99
	}
	bounded, p99 := commits(t, s.tuneTransport)
	unbounded, p99Unbounded := commits(t, func(tr *rafthttp.Transport) {
		tr.SendQueueBytes, tr.SendQueueMessages, tr.MaxQueuedBytes = 4<<30, 1<<20, 16<<30
	})
	t.Logf("| all healthy, bursts of %d MiB | commits a second: %.0f, p99 %v | without a bound: %.0f, p99 %v |",
		n, bounded, p99.Round(time.Millisecond), unbounded, p99Unbounded.Round(time.Millisecond))
	require.GreaterOrEqual(t, bounded, 0.9*unbounded)
}

// bursts proposes n entries of size bytes at once, and again when all are
// committed. It returns how many were committed a second, and how long one took at
// most, but for a hundredth.
func (m *raftMember) bursts(t *testing.T, bursts, n, size int) (perSecond float64, p99 time.Duration) {
	t.Helper()
	var took []time.Duration
	begin := time.Now()
	for range bursts {
		start := time.Now()
		for range n {
			require.NoError(t, m.node.Propose(t.Context(), payload[:size]))
		}
		require.True(t, m.awaitCommits(len(took)+n))
		m.mu.Lock()
		for _, at := range m.committedAt[len(took):] {
			took = append(took, at.Sub(start))
		}
		m.mu.Unlock()
	}
	perSecond = float64(len(took)) / time.Since(begin).Seconds()
	slices.Sort(took)
	return perSecond, took[len(took)*99/100]
}
