package snap_test

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/snap"
)

// TestOpenOfALiveDirectory: a second Store does not take away what the first one is about to save.
func TestOpenOfALiveDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "snap")
	link := filepath.Join(filepath.Dir(dir), "link")
	require.NoError(t, os.Symlink(dir, link))
	s := openStore(t, dir)
	const data = "a database"
	half(t, s, data, transferOf(data, 1, 9))
	_, err := s.SaveDBFrom(io.MultiReader(strings.NewReader("data"), readerFunc(func([]byte) (int, error) {
		for _, again := range []string{dir, link} {
			_, err := snap.Open(again)
			require.ErrorIs(t, err, snap.ErrInUse)
			require.ErrorContains(t, err, again)
		}
		return 0, io.EOF
	}), strings.NewReader("base")), 7)
	require.NoError(t, err)
	requireDB(t, s, 7, "database")
	offset, _ := s.PartialDB(transferOf(data, 1, 9))
	require.Positive(t, offset)
	require.NoError(t, s.Close())
	requireFiles(t, dir, "0000000000000007.snap.db")
	s = openStore(t, link)
	requireDB(t, s, 7, "database")
}

// What a Store that was closed is asked to do, it refuses: the directory may be another's.
func TestClose(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	_, err := s.SaveDBFrom(strings.NewReader("database"), 7)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	other := openStore(t, dir)
	require.NoError(t, s.Close(), "which does not unlock what another has locked")
	_, err = snap.Open(dir)
	require.ErrorIs(t, err, snap.ErrInUse)

	_, err = s.SaveDBFrom(strings.NewReader("db"), 9)
	require.ErrorIs(t, err, os.ErrClosed)
	require.ErrorContains(t, err, dir)
	_, err = s.ResumeDBFrom(strings.NewReader("db"), transferOf("db", 1, 9), 0, sumOf("db"))
	require.ErrorIs(t, err, os.ErrClosed)
	require.ErrorIs(t, s.RemoveBefore(8), os.ErrClosed)
	offset, _ := s.PartialDB(transferOf("db", 1, 9))
	require.Zero(t, offset)
	requireDB(t, other, 7, "database")
	requireFiles(t, dir, "0000000000000007.snap.db")
}

// Close waits for what is under way, whose end is as it would have been, but that nothing waits for its rest.
func TestCloseWaits(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	closed := make(chan error, 1)
	begun := make(chan struct{})
	go func() {
		<-begun
		closed <- s.Close()
	}()
	_, err := s.SaveDBFrom(io.MultiReader(strings.NewReader("data"), readerFunc(func([]byte) (int, error) {
		close(begun)
		for !s.Closed() {
			runtime.Gosched()
		}
		_, err := snap.Open(dir)
		require.ErrorIs(t, err, snap.ErrInUse)
		return 0, io.EOF
	}), strings.NewReader("base")), 7)
	require.NoError(t, err)
	require.NoError(t, <-closed)
	requireDB(t, openStore(t, dir), 7, "database")
}

func TestCloseDuringATransferThatBreaks(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	closed := make(chan error, 1)
	_, err := s.ResumeDBFrom(io.MultiReader(strings.NewReader("data"), readerFunc(func([]byte) (int, error) {
		go func() { closed <- s.Close() }()
		for !s.Closed() {
			runtime.Gosched()
		}
		return 0, errCut
	})), transferOf("database", 1, 7), 0, sumOf("database"))
	require.ErrorIs(t, err, errCut)
	require.NoError(t, <-closed)
	requireFiles(t, dir)
}

// The lock of a process goes with it, and that of a Store that nobody has any more with the Store.
func TestLockOfTheDead(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestCrashHelper$")
	cmd.Env = append(os.Environ(), crashEnv+"="+dir)
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	_, err = io.WriteString(in, "7\n")
	require.NoError(t, err)
	_, err = io.ReadFull(out, make([]byte, len("begin")))
	require.NoError(t, err)
	_, err = snap.Open(dir)
	require.ErrorIs(t, err, snap.ErrInUse)
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()

	for range 2 {
		err = snap.ErrInUse
		for range 1000 {
			if _, err = snap.Open(dir); err == nil {
				break
			}
			runtime.GC()
		}
		require.NoError(t, err)
	}
}

// TestLockInProcess: where the system has no locks, a process locks at least against itself.
func TestLockInProcess(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(filepath.Dir(dir))
	s, err := snap.OpenWithoutLocks(dir)
	require.NoError(t, err)
	_, err = snap.OpenWithoutLocks(filepath.Base(dir))
	require.ErrorIs(t, err, snap.ErrInUse)
	other, err := snap.OpenWithoutLocks(filepath.Join(dir, "other"))
	require.NoError(t, err)
	require.NoError(t, other.Close())
	require.NoError(t, s.Close())
	for range 2 {
		err = snap.ErrInUse
		for range 1000 {
			if _, err = snap.OpenWithoutLocks(dir); err == nil {
				break
			}
			runtime.GC()
		}
		require.NoError(t, err)
	}
}
