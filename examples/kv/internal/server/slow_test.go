package server_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/crashdisk"
	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/server"
	"github.com/seed-4d73690b/rafthttp/memnet/faultproxy"
)

// A follower that takes its snapshot slowly holds up neither writes, also not those that outgrow what bbolt has mapped,
// nor the compaction of the log, for ever.
func TestSlowFollowerHoldsNothingUp(t *testing.T) {
	const value = 64 << 10
	c := newCluster(t, 1, func(cfg *server.Config) {
		cfg.Storage.MmapBytes = value
		cfg.CompactEntries, cfg.KeepEntries = 20, 5
	})
	leader, cl := c.running[1], c.client(1)
	write := func(from, to int) {
		for i := from; i < to; i++ {
			put(t, cl, fmt.Sprint(i), strings.Repeat("v", value))
		}
	}
	write(0, 100)
	require.Greater(t, leader.Status().Log.First, uint64(10), "a new member needs a snapshot")

	cfg := c.config(2)
	cfg.Join = c.configs[1].ClientURL
	c.configs[2] = cfg
	proxy, err := faultproxy.Listen("127.0.0.1:0", strings.TrimPrefix(cfg.PeerURL, "http://"), faultproxy.WithSocketBuffers(256<<10))
	require.NoError(t, err)
	t.Cleanup(func() { _ = proxy.Close() })
	proxy.ToTarget().SetBandwidth(64 << 10) // the snapshot has 6 MiB
	c.kill(1)
	lead := c.configs[1]
	lead.Routes = map[string]string{cfg.PeerURL: "http://" + proxy.Addr()}
	c.configs[1] = lead
	leader = c.start(1)
	c.start(2)
	sending := func() bool {
		for _, p := range leader.Status().Transport.Peers {
			if len(p.Snapshots) > 0 {
				return true
			}
		}
		return false
	}
	c.await("the snapshot to be on its way", sending)
	copies := func() []string {
		files, err := filepath.Glob(filepath.Join(lead.DataDir, "sending", "*"))
		require.NoError(t, err)
		return files
	}
	require.NotEmpty(t, copies())

	before := leader.Status()
	write(100, 300)
	after := leader.Status()
	require.Greater(t, after.DBSize, 2*before.DBSize)
	require.Less(t, after.Log.Last-after.Log.First, uint64(150), "the log is compacted")
	require.Greater(t, after.Log.Last-after.Log.First, uint64(25+10), "but not as soon as usual: the receiver wants the entries")
	require.True(t, sending())

	proxy.ToTarget().SetBandwidth(0)
	c.await("the follower to catch up", func() bool { return c.running[2].Status().Role == "follower" })
	c.requireSameData()
	c.await("the copies to go", func() bool { return len(copies()) == 0 })
}

// The entries that follow a snapshot on its way are kept, until there are too many of them.
func TestCompactionWaitsForReceivers(t *testing.T) {
	c := newCluster(t, 1, func(cfg *server.Config) { cfg.CompactEntries, cfg.KeepEntries = 50, 1 })
	s, cl := c.running[1], c.client()
	write := func(n int) {
		for i := range n {
			put(t, cl, fmt.Sprint(i), "v")
		}
	}
	write(10)
	oldest := s.Status().Applied
	require.True(t, s.BeginSnapshot(oldest))
	write(10)
	require.True(t, s.BeginSnapshot(s.Status().Applied))
	write(50)
	log, err := cl.Compact(t.Context())
	require.NoError(t, err)
	require.Equal(t, oldest, log.First, "KeepEntries before the oldest")
	s.EndSnapshot(oldest)
	log, err = cl.Compact(t.Context())
	require.NoError(t, err)
	require.Equal(t, oldest+10, log.First)
	write(250)
	require.Greater(t, s.Status().Log.First, oldest+200, "too many")
}

// There are so many copies of the data and no more, and an earlier life's are gone.
func TestCopiesAreBounded(t *testing.T) {
	c := newCluster(t, 1)
	for range 4 {
		require.True(t, c.running[1].BeginSnapshot(1))
	}
	require.False(t, c.running[1].BeginSnapshot(1))
	c.running[1].EndSnapshot(1)
	require.True(t, c.running[1].BeginSnapshot(1))

	c.kill(1)
	left := filepath.Join(c.configs[1].DataDir, "sending", "copy-1.db")
	require.NoError(t, os.WriteFile(left, []byte("half"), 0o600))
	c.start(1)
	require.NoFileExists(t, left)
}

// A leader with hardly any room left on its disk makes no copy, and goes on; once there is room, the follower gets its
// snapshot.
func TestSnapshotWithoutRoom(t *testing.T) {
	disk := &crashdisk.Disk{}
	c := newCluster(t, 1, func(cfg *server.Config) {
		cfg.CompactEntries, cfg.KeepEntries = 10, 1
		cfg.Storage.Disk = disk
		cfg.Logger = nil // it says what is wrong
	})
	cl := c.client(1)
	for range 30 {
		put(t, cl, "k", "v")
	}
	disk.Full.Store(true)
	cfg := c.config(2)
	cfg.Join = c.configs[1].ClientURL
	c.configs[2] = cfg
	c.start(2)
	c.await("a snapshot that fails", func() bool { return c.running[1].Status().Snapshots.Failed > 0 })
	left, err := os.ReadDir(filepath.Join(c.configs[1].DataDir, "sending"))
	require.NoError(t, err)
	require.Empty(t, left)
	put(t, cl, "k", "w")
	disk.Full.Store(false)
	c.await("the follower to catch up", func() bool { return c.running[2].Status().Role == "follower" })
	require.EqualValues(t, 1, c.running[1].Status().Snapshots.Failed, "it is not tried all the time")
	requireValue(t, c.client(2), "k", "w")
}
