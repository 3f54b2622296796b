package snap_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/snap"
)

// unsized hides every method of a reader but Read.
type unsized struct{ io.Reader }

// sized declares a length that need not be true.
type sized struct {
	io.Reader
	length int64
}

func (s sized) Len() int64 { return s.length }

func openStore(t *testing.T, dir string) *snap.Store {
	t.Helper()
	s, err := snap.Open(dir)
	require.NoError(t, err)
	return s
}

func requireFiles(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	got := make([]string, 0, len(entries))
	for _, e := range entries {
		got = append(got, e.Name())
	}
	require.ElementsMatch(t, want, got)
}

func requireDB(t *testing.T, s *snap.Store, id uint64, want string) {
	t.Helper()
	path, err := s.DBFilePath(id)
	require.NoError(t, err)
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	require.True(t, want == string(got), "database %d: %d bytes differ from the %d expected", id, len(got), len(want))
}

func TestSaveDBFrom(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 200_000) // over one copy buffer
	tests := []struct {
		name string
		r    io.Reader
		want string
	}{
		{"length unknown", unsized{strings.NewReader(big)}, big},
		{"length declared", sized{strings.NewReader(big), int64(len(big))}, big},
		{"length declared as an int", bytes.NewReader([]byte(big)), big},
		{"negative length", sized{strings.NewReader("db"), -1}, "db"},
		{"empty", sized{strings.NewReader(""), 0}, ""},
		{"one byte at a time", iotest.OneByteReader(strings.NewReader("slow")), "slow"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "made", "here")
			s := openStore(t, dir)
			n, err := s.SaveDBFrom(tc.r, 0x1f)
			require.NoError(t, err)
			require.Equal(t, int64(len(tc.want)), n)
			requireDB(t, s, 0x1f, tc.want)
			requireFiles(t, dir, "000000000000001f.snap.db")
		})
	}
}

func TestSaveDBFromFailureLeavesNothing(t *testing.T) {
	cause := errors.New("connection reset")
	fail := func(err error) func() error { return func() error { return err } }
	whole := func() io.Reader { return strings.NewReader("database") }
	tests := []struct {
		name   string
		faults snap.Faults
		r      io.Reader
		want   error
	}{
		{"no temporary file", snap.Faults{CreateTemp: fail(syscall.EACCES)}, whole(), syscall.EACCES},
		{"disk full", snap.Faults{Write: fail(syscall.ENOSPC)}, whole(), syscall.ENOSPC},
		{"disk broken", snap.Faults{Write: fail(syscall.EIO)}, whole(), syscall.EIO},
		{"file not synced", snap.Faults{Sync: fail(syscall.EIO)}, whole(), syscall.EIO},
		{"file not closed", snap.Faults{Close: fail(syscall.EDQUOT)}, whole(), syscall.EDQUOT},
		{"not renamed", snap.Faults{Rename: fail(syscall.EROFS)}, whole(), syscall.EROFS},
		{"directory not synced", snap.Faults{SyncDir: fail(syscall.EIO)}, whole(), syscall.EIO},
		{"reader fails", snap.Faults{}, io.MultiReader(whole(), iotest.ErrReader(cause)), cause},
		{"shorter than declared", snap.Faults{}, sized{whole(), 9}, snap.ErrWrongSize},
		{"longer than declared", snap.Faults{}, sized{whole(), 7}, snap.ErrWrongSize},
		{"longer than declared empty", snap.Faults{}, sized{whole(), 0}, snap.ErrWrongSize},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			dir, faults := t.TempDir(), &snap.Faults{}
			s, err := snap.OpenWithFaults(dir, faults)
			require.NoError(t, err)
			*faults = tc.faults
			_, err = s.SaveDBFrom(tc.r, 7)
			require.ErrorIs(t, err, tc.want)
			requireFiles(t, dir)
			_, err = s.DBFilePath(7)
			require.ErrorIs(t, err, snap.ErrNoDBSnapshot)

			*faults = snap.Faults{}
			_, err = s.SaveDBFrom(whole(), 7)
			require.NoError(t, err, "the next try works")
			requireDB(t, s, 7, "database")
		})
	}
}

func TestSaveDBFromSyncsBeforeRename(t *testing.T) {
	var steps []string
	record := func(name string) func() error {
		return func() error { steps = append(steps, name); return nil }
	}
	faults := &snap.Faults{}
	s, err := snap.OpenWithFaults(t.TempDir(), faults)
	require.NoError(t, err)
	*faults = snap.Faults{
		CreateTemp: record("create"), Write: record("write"), Sync: record("sync file"),
		Close: record("close"), Rename: record("rename"), SyncDir: record("sync directory"), Remove: record("remove"),
	}
	_, err = s.SaveDBFrom(strings.NewReader("database"), 7)
	require.NoError(t, err)
	require.Equal(t, []string{"create", "write", "sync file", "close", "rename", "sync directory"}, steps)
}

func TestSaveDBFromReadsOneByteTooMany(t *testing.T) {
	r := strings.NewReader("database and more")
	n, err := openStore(t, t.TempDir()).SaveDBFrom(sized{r, 8}, 7)
	require.ErrorIs(t, err, snap.ErrWrongSize)
	require.Equal(t, int64(9), n)
	require.Equal(t, len("database and more")-9, r.Len())
}

func TestSaveDBFromPanickingReader(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	require.PanicsWithValue(t, "in Read", func() {
		_, _ = s.SaveDBFrom(readerFunc(func([]byte) (int, error) { panic("in Read") }), 7)
	})
	requireFiles(t, dir)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// A database that came whole replaces the one of that index, in whose place there may be anything by now. Who has the
// old one open keeps it.
func TestSaveDBFromReplaces(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "0000000000000007.snap.db"), []byte("not a datab"), 0o600))
	s := openStore(t, dir)
	path, err := s.DBFilePath(7)
	require.NoError(t, err)
	old, err := os.Open(path)
	require.NoError(t, err)
	defer old.Close()
	for _, data := range []string{"the first", "another of any length"} {
		n, err := s.SaveDBFrom(unsized{strings.NewReader(data)}, 7)
		require.NoError(t, err)
		require.EqualValues(t, len(data), n)
		requireDB(t, s, 7, data)
		requireFiles(t, dir, "0000000000000007.snap.db")
	}
	got, err := io.ReadAll(old)
	require.NoError(t, err)
	require.Equal(t, "not a datab", string(got))

	_, err = s.SaveDBFrom(sized{strings.NewReader("third"), 9}, 7)
	require.ErrorIs(t, err, snap.ErrWrongSize)
	requireDB(t, s, 7, "another of any length")
}

// Where the system does not replace a file, as some do not while it is open, that file has to be the same.
func TestSaveDBFromCannotReplace(t *testing.T) {
	dir, faults := t.TempDir(), &snap.Faults{}
	s, err := snap.OpenWithFaults(dir, faults)
	require.NoError(t, err)
	_, err = s.SaveDBFrom(strings.NewReader("database"), 7)
	require.NoError(t, err)
	faults.Rename = func() error { return syscall.EACCES }
	synced := 0
	faults.SyncDir = func() error { synced++; return nil }
	_, err = s.SaveDBFrom(strings.NewReader("database"), 7)
	require.NoError(t, err, "it is the same")
	require.Equal(t, 1, synced)
	for _, other := range []string{"databasf", "data", "database and more", ""} {
		_, err = s.SaveDBFrom(strings.NewReader(other), 7)
		require.ErrorIs(t, err, syscall.EACCES)
	}
	requireDB(t, s, 7, "database")
	requireFiles(t, dir, "0000000000000007.snap.db")
}

// A database whose name is not durable is not taken back where there was one before: somebody may know of that.
func TestSaveDBFromReplacesUnsynced(t *testing.T) {
	dir, faults := t.TempDir(), &snap.Faults{}
	s, err := snap.OpenWithFaults(dir, faults)
	require.NoError(t, err)
	_, err = s.SaveDBFrom(strings.NewReader("database"), 7)
	require.NoError(t, err)
	faults.SyncDir = func() error { return syscall.EIO }
	_, err = s.SaveDBFrom(strings.NewReader("another"), 7)
	require.ErrorIs(t, err, syscall.EIO)
	requireDB(t, s, 7, "another")
	requireFiles(t, dir, "0000000000000007.snap.db")
}

func TestSaveDBFromConcurrently(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	content := func(writer int) string { return strings.Repeat(string(rune('a'+writer)), 100_000) }
	var wg sync.WaitGroup
	for writer := range 12 {
		wg.Go(func() {
			n, err := s.SaveDBFrom(unsized{strings.NewReader(content(writer))}, uint64(writer%3))
			if err != nil || n != 100_000 {
				t.Errorf("writer %d: %d bytes, %v", writer, n, err)
			}
		})
	}
	wg.Wait()
	requireFiles(t, dir, "0000000000000000.snap.db", "0000000000000001.snap.db", "0000000000000002.snap.db")
	for id := range uint64(3) {
		path, err := s.DBFilePath(id)
		require.NoError(t, err)
		got, err := os.ReadFile(path)
		require.NoError(t, err)
		writer := int(got[0] - 'a')
		require.Equal(t, int(id), writer%3)
		requireDB(t, s, id, content(writer))
	}
}

func TestOpenRemovesLeftoversOnly(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	_, err := s.SaveDBFrom(strings.NewReader("complete"), 7)
	require.NoError(t, err)
	require.NoError(t, s.Close())

	// A crash while a database is read: the reader copies what a crash would leave, and the store never cleans up that.
	crashed := t.TempDir()
	s = openStore(t, crashed)
	_, err = s.SaveDBFrom(readerFunc(func([]byte) (int, error) {
		entries, err := os.ReadDir(crashed)
		require.NoError(t, err)
		require.Len(t, entries, 1)
		require.NoError(t, os.WriteFile(filepath.Join(dir, entries[0].Name()), []byte("half"), 0o600))
		return 0, io.EOF
	}), 9)
	require.NoError(t, err)
	others := []string{"0000000000000007.snap.db", "db", "0000000000000001-0000000000000002.snap", "notes.tmp"}
	for _, name := range others[1:] {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	}

	reopened := openStore(t, dir)
	requireFiles(t, dir, others...)
	requireDB(t, reopened, 7, "complete")
}

func TestOpenFails(t *testing.T) {
	dir := t.TempDir()
	occupied := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(occupied, nil, 0o600))
	_, err := snap.Open(occupied)
	require.ErrorIs(t, err, syscall.ENOTDIR)
	_, err = snap.Open(filepath.Join(occupied, "below"))
	require.ErrorIs(t, err, syscall.ENOTDIR)

	leftover := filepath.Join(dir, "0000000000000007.snap.db.123.tmp")
	require.NoError(t, os.WriteFile(leftover, nil, 0o600))
	fail := func() error { return syscall.EIO }
	_, err = snap.OpenWithFaults(dir, &snap.Faults{Remove: fail})
	require.ErrorIs(t, err, syscall.EIO)
	_, err = snap.OpenWithFaults(dir, &snap.Faults{SyncDir: fail})
	require.ErrorIs(t, err, syscall.EIO)
	_, err = snap.OpenWithFaults(filepath.Join(dir, "new"), &snap.Faults{SyncDir: fail})
	require.ErrorIs(t, err, syscall.EIO, "the name of the directory is not durable")
}

// The directory above may be none that can be synced: then the store's was not made by Open.
func TestOpenBelowAForeignDirectory(t *testing.T) {
	dir := t.TempDir()
	for _, err := range []error{syscall.EACCES, syscall.EPERM, syscall.EROFS, syscall.EINVAL, syscall.ENOTSUP} {
		calls := 0
		onceFails := func() error {
			if calls++; calls == 1 {
				return err
			}
			return nil
		}
		s, got := snap.OpenWithFaults(dir, &snap.Faults{SyncDir: onceFails})
		require.NoError(t, got)
		require.NoError(t, s.Close())
		require.Equal(t, 2, calls)
		calls = 0
		_, got = snap.OpenWithFaults(filepath.Join(dir, err.Error()), &snap.Faults{SyncDir: func() error {
			if calls++; calls == 2 { // the first is for the directory above dir
				return err
			}
			return nil
		}})
		require.ErrorIs(t, got, err, "it was made, and may be lost")
	}
}

func TestDBFilePath(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	_, err := s.DBFilePath(1)
	require.ErrorIs(t, err, snap.ErrNoDBSnapshot)
	_, err = s.SaveDBFrom(strings.NewReader("db"), 1)
	require.NoError(t, err)
	path, err := s.DBFilePath(1)
	require.NoError(t, err)
	require.Equal(t, filepath.Join(dir, "0000000000000001.snap.db"), path)

	require.NoError(t, os.RemoveAll(dir))
	require.NoError(t, os.WriteFile(dir, nil, 0o600))
	_, err = s.DBFilePath(1)
	require.ErrorIs(t, err, syscall.ENOTDIR, "not knowing is not the same as there being none")
	_, err = s.SaveDBFrom(strings.NewReader("db"), 1)
	require.ErrorIs(t, err, syscall.ENOTDIR)
	require.ErrorIs(t, s.RemoveBefore(2), syscall.ENOTDIR)
}

func TestRemoveBefore(t *testing.T) {
	dir, faults := t.TempDir(), &snap.Faults{}
	s, err := snap.OpenWithFaults(dir, faults)
	require.NoError(t, err)
	for _, id := range []uint64{1, 9, 0x10, 1 << 63} {
		_, err := s.SaveDBFrom(strings.NewReader("db"), id)
		require.NoError(t, err)
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "1.snap.db"), nil, 0o600))

	calls := 0
	faults.Remove = func() error {
		if calls++; calls == 1 {
			return syscall.EIO
		}
		return nil
	}
	require.ErrorIs(t, s.RemoveBefore(0x10), syscall.EIO)
	requireFiles(t, dir, "0000000000000001.snap.db", "0000000000000010.snap.db", "8000000000000000.snap.db", "1.snap.db")

	faults.Remove = func() error { return os.ErrNotExist }
	require.NoError(t, s.RemoveBefore(0x10), "someone else removed it")
	faults.Remove = nil
	require.NoError(t, s.RemoveBefore(0x10))
	requireFiles(t, dir, "0000000000000010.snap.db", "8000000000000000.snap.db", "1.snap.db")
}
