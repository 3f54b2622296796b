package snap_test

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/snap"
)

func TestFileReader(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	require.NoError(t, os.WriteFile(path, []byte("database"), 0o600))
	f, err := os.Open(path)
	require.NoError(t, err)
	closed := 0
	db := snap.NewFileReader(f, func() { closed++ })
	require.Same(t, f, db.OS())
	_, err = db.Seek(4, io.SeekStart)
	require.NoError(t, err)
	b, err := io.ReadAll(db)
	require.NoError(t, err)
	require.Equal(t, "base", string(b))
	require.NoError(t, db.Close())
	require.Equal(t, 1, closed)
	_, err = f.Stat()
	require.ErrorIs(t, err, os.ErrClosed)
	require.ErrorIs(t, snap.NewFileReader(f, nil).Close(), os.ErrClosed)
}
