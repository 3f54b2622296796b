package storage_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/crashdisk"
	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/storage"
)

// A copy is what it says, holds nothing up, and is not changed by what is written meanwhile and later.
func TestCopy(t *testing.T) {
	s := ahead(t)
	dir := t.TempDir()
	c, err := s.Data.Copy(t.Context(), dir)
	require.NoError(t, err)
	require.Equal(t, uint64(10), c.Metadata.GetIndex())
	require.Equal(t, uint64(4), c.Metadata.GetTerm())
	require.Equal(t, []uint64{1, 2, 3}, c.Metadata.GetConfState().GetVoters())
	want, err := s.Data.Digest()
	require.NoError(t, err)
	for i := range uint64(50) { // pages that are freed are used again at once
		apply(t, s, 11+i, 4, "new", fmt.Sprint(i))
	}
	require.NoError(t, s.Close()) // nothing is left open
	info, err := c.File.Stat()
	require.NoError(t, err)
	require.Equal(t, info.Size(), c.Size)
	at, err := c.File.Seek(0, io.SeekCurrent)
	require.NoError(t, err)
	require.Zero(t, at)
	require.NoError(t, c.File.Close())

	to := behind(t, t.TempDir())
	require.NoError(t, to.InstallSnapshot(c.File.Name(), c.Metadata, nil))
	got, err := to.Data.Digest()
	require.NoError(t, err)
	require.Equal(t, want, got)
	requireInstalled(t, to)
}

// Copies that are made while the data is written, and outgrows its mapping, are each of one state.
func TestCopyWhileWriting(t *testing.T) {
	const total = 100
	s, err := storage.Open(t.TempDir(), storage.Options{MmapBytes: 1 << 16})
	require.NoError(t, err)
	var writing sync.WaitGroup
	writing.Go(func() {
		for i := range uint64(total) {
			apply(t, s, i+1, 1, fmt.Sprint(i), strings.Repeat("v", 20<<10), "count", fmt.Sprint(i+1))
		}
	})
	defer s.Close()
	defer writing.Wait()
	for index := uint64(0); index < total; {
		path, meta := saveSnapshot(t, s)
		index = meta.GetIndex()
		to := open(t, t.TempDir())
		if index == 0 {
			continue // nothing was written yet
		}
		require.NoError(t, to.InstallSnapshot(path, meta, nil))
		digest, err := to.Data.Digest()
		require.NoError(t, err)
		require.EqualValues(t, index+1, digest.Keys)
		count, _, err := to.Data.Get([]byte("count"))
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint(index), string(count))
	}
}

// A copy that is not finished leaves no file.
func TestCopyEnds(t *testing.T) {
	disk := &crashdisk.Disk{}
	s, err := storage.Open(t.TempDir(), storage.Options{Disk: disk})
	require.NoError(t, err)
	apply(t, s, 10, 4)
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = s.Data.Copy(ctx, dir)
	require.ErrorIs(t, err, context.Canceled)
	disk.Full.Store(true)
	_, err = s.Data.Copy(t.Context(), dir)
	require.ErrorIs(t, err, storage.ErrNoRoom)
	disk.Full.Store(false)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
	_, err = s.Data.Copy(t.Context(), dir+"/none")
	require.ErrorIs(t, err, os.ErrNotExist)
	apply(t, s, 11, 4)
	require.NoError(t, s.Close()) // neither a transaction
}
