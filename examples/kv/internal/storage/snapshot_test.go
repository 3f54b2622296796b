package storage_test

import (
	"io"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// What a transfer reads again is what it read, whatever was written meanwhile to
// what the snapshot refers to.
func TestSnapshotReaderGoesBack(t *testing.T) {
	s := ahead(t)
	r, err := s.Data.OpenSnapshot()
	require.NoError(t, err)
	defer r.Close()
	first, err := io.ReadAll(r)
	require.NoError(t, err)
	require.Len(t, first, int(r.Size))
	for i := range uint64(5) {
		apply(t, s, 11+i, 4, "new", "3")
	}
	_, err = r.Seek(-r.Size, io.SeekEnd)
	require.NoError(t, err)
	meta := make([]byte, 2*os.Getpagesize())
	_, err = io.ReadFull(r, meta)
	require.NoError(t, err)
	require.Equal(t, first[:len(meta)], meta)
	at, err := r.Seek(0, io.SeekCurrent)
	require.NoError(t, err)
	require.EqualValues(t, len(meta), at)
	_, err = r.Seek(-1, io.SeekStart)
	require.Error(t, err)
	_, err = r.Seek(r.Size, io.SeekStart)
	require.NoError(t, err)
	_, err = r.Read(meta)
	require.ErrorIs(t, err, io.EOF)
}

func TestSnapshotReader(t *testing.T) {
	s := ahead(t)
	r, err := s.Data.OpenSnapshot()
	require.NoError(t, err)
	_, err = r.Read(make([]byte, 100))
	require.NoError(t, err)
	apply(t, s, 11, 4, "new", "3") // a reader does not hold up writes
	require.Equal(t, uint64(10), r.Metadata.GetIndex())

	// A snapshot that is installed meanwhile does not wait for it either.
	from := open(t, t.TempDir())
	apply(t, from, 30, 5)
	path, meta := saveSnapshot(t, from)
	require.NoError(t, s.InstallSnapshot(path, meta, nil))

	require.NoError(t, r.Close())
	_, err = r.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrClosed)
	require.NoError(t, s.Close()) // and nothing holds the old file any more
}
