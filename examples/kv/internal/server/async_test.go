package server_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/crashdisk"
	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/server"
	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/storage"
)

// busyDisk is a disk whose commits to the log wait while it is busy.
type busyDisk struct {
	mu   sync.Mutex
	busy chan struct{} // nil: it is not
}

func (b *busyDisk) disk() *crashdisk.Disk {
	return &crashdisk.Disk{Crashes: func(_ int, what string) *crashdisk.Crash {
		if b.mu.Lock(); b.busy != nil && what == "commit log.db" {
			busy := b.busy
			b.mu.Unlock()
			<-busy
			return nil
		}
		b.mu.Unlock()
		return nil
	}}
}

func (b *busyDisk) occupy() (release func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	busy := make(chan struct{})
	b.busy = busy
	return sync.OnceFunc(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.busy = nil
		close(busy)
	})
}

// TestRaftGoesOnWhileTheDiskIsBusy: a leader whose disk takes its time goes on to lead, and the group to write, on the disks
// of the others. Once the disk is done, it has what they have; and a member can end in each state.
func TestRaftGoesOnWhileTheDiskIsBusy(t *testing.T) {
	disks := map[uint64]*busyDisk{}
	c := newCluster(t, 3, asyncStorageWrites, func(cfg *server.Config) {
		disks[cfg.ID] = &busyDisk{}
		cfg.Storage.Disk = disks[cfg.ID].disk()
	})
	put(t, c.client(), "before", "1")
	leader := c.awaitLeader()
	others := slices.DeleteFunc([]uint64{1, 2, 3}, func(id uint64) bool { return id == leader })
	term := c.running[leader].Status().Term
	release := disks[leader].occupy()
	defer release()
	cl := c.client(others...)
	for i := range 50 {
		put(t, cl, fmt.Sprint(i), "v")
	}
	status := c.running[leader].Status()
	require.Equal(t, "leader", status.Role)
	require.Equal(t, term, status.Term)
	require.Greater(t, status.Commit, status.Applied+40, "what is not durable here is not applied")
	release()
	requireValue(t, c.client(leader), "49", "v")
	c.requireSameData()

	release = disks[leader].occupy()
	put(t, cl, "k", "v")
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.kill(leader)
	}()
	release()
	<-ended
	c.start(leader)
	requireValue(t, c.client(leader), "k", "v")
}

// TestSingleMemberAsync: the only member restarts with what it had.
func TestSingleMemberAsync(t *testing.T) {
	c := newCluster(t, 1, asyncStorageWrites, func(cfg *server.Config) { cfg.CompactEntries, cfg.KeepEntries = 10, 1 })
	for i := range 60 {
		put(t, c.client(), "k", fmt.Sprint(i))
		if i%20 == 19 {
			c.kill(1)
			c.start(1)
		}
	}
	requireValue(t, c.client(), "k", "59")
	require.Greater(t, c.running[1].Status().Log.First, uint64(30), "the log is compacted")
	c.running[1].Stop(t.Context())
	require.NoError(t, c.running[1].Err())
}

// TestLogIsKeptUntilRaftKnows: raft may read an entry, to see whether it changes the configuration, until it has heard that
// it is applied. It panics if the log does not have it.
func TestLogIsKeptUntilRaftKnows(t *testing.T) {
	for _, async := range []bool{false, true} {
		t.Run(fmt.Sprint("async ", async), func(t *testing.T) {
			cfg := server.Config{ID: 1, DataDir: t.TempDir(), CompactEntries: 10, CompactBytes: 1 << 20, KeepEntries: 1, AsyncStorageWrites: async}
			st, err := storage.Open(cfg.DataDir, storage.Options{})
			require.NoError(t, err)
			defer st.Close()
			var entries []*raftpb.Entry
			for i := range uint64(100) {
				entries = append(entries, &raftpb.Entry{Index: new(i + 1), Term: new(uint64(1)), Data: server.EncodePut(i, "k", "v")})
			}
			require.NoError(t, st.Log.Save(&raftpb.HardState{Term: new(uint64(1))}, entries))
			then, after, err := server.ApplyWith(cfg, st, entries)
			require.NoError(t, err)
			require.Equal(t, uint64(1), then)
			require.Equal(t, uint64(101), after)
		})
	}
}

// BenchmarkWrites is three members with 192 clients, on disks whose syncs take so long. go test -bench Writes -benchtime 10000x
func BenchmarkWrites(b *testing.B) {
	for _, syncTime := range []time.Duration{0, time.Millisecond, 4 * time.Millisecond, 16 * time.Millisecond} {
		for _, async := range []bool{false, true} {
			b.Run(fmt.Sprintf("sync=%v/async=%t", syncTime, async), func(b *testing.B) { benchmarkWrites(b, syncTime, async) })
		}
	}
}

func benchmarkWrites(b *testing.B, syncTime time.Duration, async bool) {
	c := newCluster(b, 3, func(cfg *server.Config) {
		cfg.Tick = 100 * time.Millisecond
		cfg.AsyncStorageWrites = async
		cfg.Storage.Disk = &crashdisk.Disk{SyncTime: syncTime}
	})
	times := make([]time.Duration, b.N)
	var next atomic.Int64
	var clients sync.WaitGroup
	value := []byte(strings.Repeat("x", 128))
	cl := c.client()
	b.ResetTimer()
	for w := range 192 {
		mine := cl.StartingAt(w)
		clients.Go(func() {
			for i := int(next.Add(1)) - 1; i < b.N; i = int(next.Add(1)) - 1 {
				began := time.Now()
				if _, err := mine.Put(context.Background(), fmt.Sprint("bench/", i), value); err != nil {
					b.Error(err)
					return
				}
				times[i] = time.Since(began)
			}
		})
	}
	clients.Wait()
	b.StopTimer()
	slices.Sort(times)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "writes/s")
	b.ReportMetric(float64(times[b.N*99/100])/1e6, "p99-ms")
	b.ReportMetric(0, "ns/op")
}
