package docs_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"

	"github.com/seed-4d73690b/rafthttp"
)

// TestWideAreaSettings: the settings of tuning.md for 1 Gbit/s and 50 ms are accepted, and are what its formula says.
func TestWideAreaSettings(t *testing.T) {
	cfg, tr := wideArea()
	cfg.ID, cfg.Storage = 1, raft.NewMemoryStorage()
	_, err := raft.NewRawNode(&cfg)
	require.NoError(t, err)
	tr.ID, tr.Raft = 1, deaf{}
	require.NoError(t, tr.Start())
	defer tr.Stop()

	const bytesPerSecond = 1e9 / 8
	underWay := bytesPerSecond * (50 * time.Millisecond).Seconds()
	require.InEpsilon(t, 6<<20, underWay, 0.01)
	require.InEpsilon(t, 2*underWay, cfg.MaxInflightBytes, 0.02)
	require.Greater(t, tr.SendQueueBytes, int64(cfg.MaxInflightBytes))
	require.InEpsilon(t, 6<<10, math.Ceil(underWay/float64(cfg.MaxInflightMsgs)), 0.01)
	require.InEpsilon(t, bytesPerSecond/2, float64(tr.SnapshotRateLimit), 0.01)
}

func wideArea() (raft.Config, *rafthttp.Transport) {
	cfg := raft.Config{
		ElectionTick: 10, HeartbeatTick: 1, // of 200 ms
		MaxSizePerMsg:             1 << 20,
		MaxInflightMsgs:           1024,     // appends of 6 KiB fill the line
		MaxInflightBytes:          12 << 20, // 2 × 6 MiB
		MaxUncommittedEntriesSize: 64 << 20,
	}
	t := rafthttp.Transport{
		SendQueueBytes:    64 << 20, // above MaxInflightBytes
		SnapshotRateLimit: 60 << 20, // half of the line: appends need the rest
	}
	return cfg, &t
}
