package server

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/crashdisk"
	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/storage"
)

// A member whose log cannot be compacted, since its disk is full, goes on, and tries again later. Only what raft must not
// forget has to be saved.
func TestFullDiskWhileTidying(t *testing.T) {
	bothLoops(t, func(t *testing.T, async bool) {
		synctest.Test(t, func(t *testing.T) {
			full, failed := false, 0
			disk := &crashdisk.Disk{Fails: func(what string) error {
				if full && strings.HasSuffix(what, "log.db") {
					failed++
					return syscall.ENOSPC
				}
				return nil
			}}
			s := startTidying(t, async, disk)
			entries := emptyEntries(1, 100, 1)
			require.NoError(t, s.save(&raftpb.HardState{Term: new(uint64(1))}, entries))
			full = true
			require.NoError(t, s.applyCommitted(entries[:50]))
			require.Equal(t, 1, failed)
			require.NoError(t, s.applyCommitted(entries[50:60]))
			require.Equal(t, 1, failed, "not at each Ready")
			time.Sleep(tidyRetry)
			require.NoError(t, s.applyCommitted(entries[60:70]))
			require.Equal(t, 2, failed)
			first, _, _ := s.storage.Log.Extent()
			require.Equal(t, uint64(1), first)
			require.ErrorIs(t, s.save(&raftpb.HardState{Term: new(uint64(2))}, nil), syscall.ENOSPC)

			full = false
			time.Sleep(tidyRetry)
			require.NoError(t, s.applyCommitted(entries[70:]))
			first, last, _ := s.storage.Log.Extent()
			require.Equal(t, uint64(100), first)
			require.Equal(t, uint64(100), last)
			require.NoError(t, s.save(&raftpb.HardState{Term: new(uint64(2))}, emptyEntries(101, 102, 2)))
		})
	})
}

// Nor does one end that cannot remove a database of which it has no use. It removes it later, and compacts the log meanwhile.
func TestUnusedDatabaseThatStays(t *testing.T) {
	bothLoops(t, func(t *testing.T, async bool) {
		synctest.Test(t, func(t *testing.T) {
			s := startTidying(t, async, &crashdisk.Disk{})
			entries := emptyEntries(1, 100, 1)
			require.NoError(t, s.save(&raftpb.HardState{Term: new(uint64(1))}, entries))
			require.NoError(t, s.SaveSnapshot(5, "data"))
			stays := filepath.Join(s.cfg.DataDir, "snap", fmt.Sprintf("%016x.snap.db", 4))
			within := filepath.Join(stays, "file")
			require.NoError(t, os.MkdirAll(within, 0o700)) // what is not empty is not removed
			require.NoError(t, s.applyCommitted(entries[:50]))
			require.DirExists(t, stays)
			first, _, _ := s.storage.Log.Extent()
			require.Equal(t, uint64(50), first)

			require.NoError(t, os.Remove(within))
			time.Sleep(tidyRetry)
			require.NoError(t, s.applyCommitted(entries[50:]))
			require.NoDirExists(t, stays)
			require.Empty(t, s.snapshots.waiting)
		})
	})
}

func startTidying(t *testing.T, async bool, disk *crashdisk.Disk) *Server {
	cfg := Config{ID: 1, DataDir: t.TempDir(), CompactEntries: 10, CompactBytes: 1 << 20, KeepEntries: 1, AsyncStorageWrites: async}
	st, err := storage.Open(cfg.DataDir, storage.Options{MmapBytes: 1 << 16, Disk: disk})
	require.NoError(t, err)
	snapshots, err := openSnapshots(cfg.DataDir)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, snapshots.store.Close())
		require.NoError(t, st.Close())
	})
	return newApplier(cfg, st, snapshots)
}
