package server_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
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
	write(100, 150)
	after := leader.Status()
	require.Greater(t, after.Log.Last-after.Log.First, uint64(25+10), "it is not compacted as soon as usual: the receiver wants the entries")
	write(150, 300)
	after = leader.Status()
	require.Greater(t, after.DBSize, 2*before.DBSize)
	require.Less(t, after.Log.Last-after.Log.First, uint64(50), "but it is compacted")
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
	require.True(t, s.BeginSnapshot(2, oldest))
	write(10)
	newer := s.Status().Applied // perhaps with an entry of the server itself
	require.True(t, s.BeginSnapshot(3, newer))
	write(50)
	s.EndSnapshot() // its receiver has yet to install it
	log, err := cl.Compact(t.Context())
	require.NoError(t, err)
	require.Equal(t, oldest, log.First, "KeepEntries before the oldest")
	s.ReleaseSnapshot(2, oldest+1) // a newer one would be kept
	s.ReleaseSnapshot(2, oldest)
	log, err = cl.Compact(t.Context())
	require.NoError(t, err)
	require.Equal(t, newer, log.First)
	write(250)
	require.Greater(t, s.Status().Log.First, oldest+200, "too many")
	write(100)
	status := s.Status()
	require.Less(t, status.Log.Last-status.Log.First, uint64(60), "none is kept for that receiver any more")
}

// They are kept until the receiver has installed it, too, within the same bound: to open a large database takes its time,
// and without them it needs another snapshot, and the next, as long as there are writes.
func TestCompactionWaitsForTheInstallation(t *testing.T) {
	for _, async := range []bool{false, true} {
		t.Run(fmt.Sprint("async ", async), func(t *testing.T) {
			small := func(cfg *server.Config) { cfg.CompactEntries, cfg.KeepEntries = 100, 5 }
			c := newCluster(t, 1, small)
			leader, cl := c.running[1], c.client(1)
			write := func(n int) {
				for i := range n {
					put(t, cl, fmt.Sprint(i), "v")
				}
			}
			write(300)
			require.Greater(t, leader.Status().Log.First, uint64(10), "a new member needs a snapshot")

			installing, install := make(chan struct{}), make(chan struct{})
			cfg := c.config(2)
			small(&cfg)
			cfg.Join, cfg.AsyncStorageWrites = c.configs[1].ClientURL, async
			var renames atomic.Int64
			cfg.Storage.Disk = &crashdisk.Disk{Crashes: func(_ int, what string) *crashdisk.Crash {
				if what == "rename data.db" && renames.Add(1) == 2 { // the first makes the file
					close(installing)
					<-install
				}
				return nil
			}}
			c.configs[2] = cfg
			follower := c.start(2)
			<-installing
			c.await("the transfer to end", func() bool { return leader.Status().Snapshots.Sent == 1 })
			write(200)
			close(install)
			c.await("the follower to catch up", func() bool { return follower.Status().Applied >= leader.Status().Commit })
			require.EqualValues(t, 1, follower.Status().Snapshots.Received)
			c.await("the entries to go", func() bool {
				put(t, cl, "k", "v")
				log := leader.Status().Log
				return log.Last-log.First < 100
			})
		})
	}
}

// A receiver that is removed before it has installed its snapshot is not waited for.
func TestCompactionDoesNotWaitForTheRemoved(t *testing.T) {
	c := newCluster(t, 1, func(cfg *server.Config) { cfg.KeepEntries = 1 })
	cl := c.client(1)
	for range 20 {
		put(t, cl, "k", "v")
	}
	log, err := cl.Compact(t.Context())
	require.NoError(t, err)
	require.Greater(t, log.First, uint64(10), "a new member needs a snapshot")
	install := make(chan struct{})
	cfg := c.config(2)
	cfg.Join = c.configs[1].ClientURL
	var renames atomic.Int64
	cfg.Storage.Disk = &crashdisk.Disk{Crashes: func(_ int, what string) *crashdisk.Crash {
		if what == "rename data.db" && renames.Add(1) == 2 {
			<-install
		}
		return nil
	}}
	c.configs[2] = cfg
	c.start(2)
	defer close(install)
	c.await("the transfer to end", func() bool { return c.running[1].Status().Snapshots.Sent == 1 })
	for range 20 {
		put(t, cl, "k", "v")
	}
	log, err = cl.Compact(t.Context())
	require.NoError(t, err)
	require.Greater(t, log.Last-log.First, uint64(15))
	_, err = cl.RemoveMember(t.Context(), 2)
	require.NoError(t, err)
	c.await("the log to be compacted", func() bool {
		log, err = cl.Compact(t.Context())
		require.NoError(t, err)
		return log.Last-log.First < 10
	})
}

// There are so many copies of the data and no more, and an earlier life's are gone.
func TestCopiesAreBounded(t *testing.T) {
	c := newCluster(t, 1)
	for to := uint64(2); to < 6; to++ {
		require.True(t, c.running[1].BeginSnapshot(to, 1))
	}
	require.False(t, c.running[1].BeginSnapshot(6, 1))
	c.running[1].EndSnapshot()
	require.True(t, c.running[1].BeginSnapshot(6, 1))

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
	requireValue(t, c.client(2), "k", "w")
}
