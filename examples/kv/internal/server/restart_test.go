package server_test

import (
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/crashdisk"
	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/server"
	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/storage"
)

// A member that joins dies when it has the log, and has applied nothing of it yet. By then the others have made it a voter,
// since it has acknowledged everything. It starts again on what it has, with the same command line and without --join.
func TestJoiningMemberDiesBeforeItAppliesAnything(t *testing.T) {
	slow := func(cfg *server.Config) { cfg.Tick = 100 * time.Millisecond } // as it is by default
	c := newCluster(t, 2, slow)
	put(t, c.client(), "k", "v")
	cfg := c.config(3)
	slow(&cfg)
	cfg.AsyncStorageWrites = false
	cfg.Join = c.configs[1].ClientURL
	die := make(chan struct{})
	var applies atomic.Int64
	disk := &crashdisk.Disk{Crashes: func(_ int, what string) *crashdisk.Crash {
		if what == "commit data.db" && applies.Add(1) == 2 { // the first one makes the file
			<-die
			return &crashdisk.Crash{} // killed
		}
		return nil
	}}
	cfg.Storage.Disk = disk
	c.configs[3] = cfg
	first, err := server.Start(t.Context(), cfg)
	require.NoError(t, err)
	c.await("the others to make it a voter", func() bool {
		cluster, err := c.client(1, 2).Members(t.Context())
		require.NoError(t, err)
		return slices.ContainsFunc(cluster.Members, func(m storage.Member) bool { return m.ID == 3 && !m.Learner })
	})
	close(die)
	<-first.Done()
	require.ErrorIs(t, first.Err(), crashdisk.ErrCrashed)
	require.NoError(t, disk.Restart())

	c.start(3)
	c.kill(3)
	cfg.Join = ""
	c.configs[3] = cfg
	c.start(3)
	requireValue(t, c.client(3), "k", "v")
}

// A member without its log has forgotten its vote, and what it acknowledged and had not applied: it does not start.
func TestMemberLosesItsLog(t *testing.T) {
	c := newCluster(t, 3)
	put(t, c.client(), "k", "v")
	lost := c.follower()
	c.kill(lost)
	require.NoError(t, os.Remove(filepath.Join(c.configs[lost].DataDir, "log.db")))
	for range 2 { // a start that is refused changes nothing
		_, err := server.Start(t.Context(), c.configs[lost])
		require.ErrorContains(t, err, "log.db is missing")
	}
}
