package snapshots_test

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
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
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
	const size = 8 * testmember.MiB
	data := testmember.RandomBytes(size)
	t.Run("cut in the middle", func(t *testing.T) {
		dir := smallDisk(t, "10m")
		bubble.Test(t, func(t *testing.T) {
			store := testmember.OpenStore(t, dir)
			p := testmember.NewPair(t, nil, testmember.Receives(store))
			p.Net.Link("a", "b").SetBandwidth(4 << 20)
			time.Sleep(time.Second)
			p.A.SendSnapshot(snap.NewMessage(testmember.MsgSnap(2, 1, 7), breaking(data, func() { p.Net.Reset("a", "b") }, size/2), size))
			require.NoError(t, <-p.Sent)
			testmember.RequireSaved(t, store, 7, data)
		})
	})
	t.Run("the answer got lost", func(t *testing.T) {
		dir := smallDisk(t, "12m")
		bubble.Test(t, func(t *testing.T) {
			store := testmember.OpenStore(t, dir)
			p := testmember.NewPair(t, nil, testmember.Receives(store))
			time.Sleep(time.Second)
			calls := 0
			p.B.Recorder.OnProcess = func(context.Context, *raftpb.Message) error {
				if calls++; calls == 1 {
					p.Net.Reset("a", "b")
					time.Sleep(100 * time.Millisecond)
				}
				return nil
			}
			p.A.SendSnapshot(snap.NewMessage(testmember.MsgSnap(2, 1, 7), &testmember.Seekable{Reader: bytes.NewReader(data)}, size))
			require.NoError(t, <-p.Sent)
			require.Equal(t, 1, calls)
			testmember.RequireSaved(t, store, 7, data)
		})
	})
}
