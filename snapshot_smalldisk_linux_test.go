package rafthttp_test

import (
	"bytes"
	"context"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// smallDisk is a directory on a file system of its own.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount")
	}
	dir := t.TempDir()
	require.NoError(t, syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size))
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	return dir
}

// TestSnapshotToASmallDisk: a disk that has room for the database, and for little more,
// gets it although the connection breaks on the way, and at the end.
func TestSnapshotToASmallDisk(t *testing.T) {
	const size = 8 * mib
	data := randomBytes(size)
	t.Run("cut in the middle", func(t *testing.T) {
		dir := smallDisk(t, "10m")
		bubble.Test(t, func(t *testing.T) {
			store := openIn(t, dir)
			p := newPair(t, nil, receives(store))
			p.net.Link("a", "b").SetBandwidth(4 << 20)
			time.Sleep(time.Second)
			p.a.SendSnapshot(snap.NewMessage(msgSnap(2, 1, 7), breaking(data, func() { p.net.Reset("a", "b") }, size/2), size))
			require.NoError(t, <-p.sent)
			requireSaved(t, store, 7, data)
		})
	})
	t.Run("the answer got lost", func(t *testing.T) {
		dir := smallDisk(t, "12m")
		bubble.Test(t, func(t *testing.T) {
			store := openIn(t, dir)
			p := newPair(t, nil, receives(store))
			time.Sleep(time.Second)
			calls := 0
			p.b.raft.process = func(context.Context, *raftpb.Message) error {
				if calls++; calls == 1 {
					p.net.Reset("a", "b")
					time.Sleep(100 * time.Millisecond)
				}
				return nil
			}
			p.a.SendSnapshot(snap.NewMessage(msgSnap(2, 1, 7), &seekable{Reader: bytes.NewReader(data)}, size))
			require.NoError(t, <-p.sent)
			require.Equal(t, 1, calls)
			requireSaved(t, store, 7, data)
		})
	})
}
