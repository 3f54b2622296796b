package snap_test

import (
	"errors"
	"hash/crc32"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/snap"
)

var errCut = errors.New("connection cut")

// cutAfter brings n bytes of data and breaks.
func cutAfter(data string, n int) io.Reader {
	return io.MultiReader(strings.NewReader(data[:n]), iotest.ErrReader(errCut))
}

func sumOf(data string) func() (uint32, error) {
	return func() (uint32, error) { return crc32.Checksum([]byte(data), castagnoli), nil }
}

func transferOf(data string, from, index uint64) snap.Transfer {
	return snap.Transfer{From: from, Term: 3, Index: index, Size: int64(len(data))}
}

// half leaves the first half of data in the store.
func half(t *testing.T, s *snap.Store, data string, tr snap.Transfer) int64 {
	t.Helper()
	n, err := s.ResumeDBFrom(cutAfter(data, len(data)/2), tr, 0, sumOf(data))
	require.ErrorIs(t, err, errCut)
	require.EqualValues(t, len(data)/2, n)
	return n
}

func TestResumeDBFrom(t *testing.T) {
	data := strings.Repeat("0123456789abcdef", 100_000)
	dir := t.TempDir()
	s := openStore(t, dir)
	tr := transferOf(data, 1, 7)
	offset, sum := s.PartialDB(tr)
	require.Zero(t, offset)
	require.Zero(t, sum)
	for at := range int64(5) { // it breaks again and again
		n, err := s.ResumeDBFrom(cutAfter(data[offset:], 1000), tr, offset, sumOf(data))
		require.ErrorIs(t, err, errCut)
		require.EqualValues(t, 1000, n)
		offset, sum = s.PartialDB(tr)
		require.Equal(t, 1000*(at+1), offset)
		require.Equal(t, crc32.Checksum([]byte(data[:offset]), castagnoli), sum)
		_, err = s.DBFilePath(7)
		require.ErrorIs(t, err, snap.ErrNoDBSnapshot)
	}
	n, err := s.ResumeDBFrom(strings.NewReader(data[offset:]), tr, offset, sumOf(data))
	require.NoError(t, err)
	require.EqualValues(t, len(data)-5000, n)
	requireDB(t, s, 7, data)
	requireFiles(t, dir, "0000000000000007.snap.db")

	offset, sum = s.PartialDB(tr)
	require.Equal(t, tr.Size, offset, "all of it")
	_, err = s.ResumeDBFrom(strings.NewReader(""), tr, offset, func() (uint32, error) { return sum, nil })
	require.NoError(t, err, "who asks again is told so")
	_, err = s.ResumeDBFrom(strings.NewReader(""), tr, offset, sumOf("something else"))
	require.ErrorIs(t, err, snap.ErrChecksum)
	require.NoError(t, s.RemoveBefore(8))
	offset, _ = s.PartialDB(tr)
	require.Zero(t, offset, "it is gone")
	_, err = s.ResumeDBFrom(strings.NewReader(""), tr, tr.Size, sumOf(data))
	require.ErrorIs(t, err, snap.ErrOffset)
}

func TestResumeDBFromOffset(t *testing.T) {
	const data = "a database"
	dir := t.TempDir()
	s := openStore(t, dir)
	tr := transferOf(data, 1, 7)
	at := half(t, s, data, tr)
	for _, offset := range []int64{-1, 1, at - 1, at + 1, tr.Size, tr.Size + 1, math.MaxInt64, math.MinInt64} {
		_, err := s.ResumeDBFrom(strings.NewReader(data), tr, offset, sumOf(data))
		require.ErrorIs(t, err, snap.ErrOffset, "%d", offset)
	}
	for _, other := range []snap.Transfer{
		{From: 2, Term: 3, Index: 7, Size: tr.Size}, {From: 1, Term: 4, Index: 7, Size: tr.Size},
		{From: 1, Term: 3, Index: 8, Size: tr.Size}, {From: 1, Term: 3, Index: 7, Size: tr.Size + 1}, {From: 1, Term: 3, Index: 7, Size: -1},
	} {
		offset, _ := s.PartialDB(other)
		require.Zero(t, offset)
		_, err := s.ResumeDBFrom(strings.NewReader(data), other, at, sumOf(data))
		require.ErrorIs(t, err, snap.ErrOffset)
	}
	// While it is received, nobody else can have it.
	_, err := s.ResumeDBFrom(readerFunc(func([]byte) (int, error) {
		offset, _ := s.PartialDB(tr)
		require.Zero(t, offset)
		for _, offset := range []int64{0, at} {
			_, err := s.ResumeDBFrom(strings.NewReader(data), tr, offset, sumOf(data))
			require.ErrorIs(t, err, snap.ErrOffset)
		}
		return 0, errCut
	}), tr, at, sumOf(data))
	require.ErrorIs(t, err, errCut)
	offset, _ := s.PartialDB(tr)
	require.Equal(t, at, offset, "nothing came, and nothing is lost")
}

// After any failure but one of the reader nothing is left, and the next try works.
func TestResumeDBFromFailureLeavesNothing(t *testing.T) {
	fail := func(err error) func() error { return func() error { return err } }
	const data = "a database"
	tests := []struct {
		name   string
		faults snap.Faults
		rest   string
		sum    func() (uint32, error)
		want   error
	}{
		{"disk full", snap.Faults{Write: fail(syscall.ENOSPC)}, "abase", sumOf(data), syscall.ENOSPC},
		{"disk broken", snap.Faults{Write: fail(syscall.EIO)}, "abase", sumOf(data), syscall.EIO},
		{"file not synced", snap.Faults{Sync: fail(syscall.EIO)}, "abase", sumOf(data), syscall.EIO},
		{"file not closed", snap.Faults{Close: fail(syscall.EDQUOT)}, "abase", sumOf(data), syscall.EDQUOT},
		{"not renamed", snap.Faults{Rename: fail(syscall.EROFS)}, "abase", sumOf(data), syscall.EROFS},
		{"directory not synced", snap.Faults{SyncDir: fail(syscall.EIO)}, "abase", sumOf(data), syscall.EIO},
		{"longer", snap.Faults{}, "abases", sumOf(data), snap.ErrWrongSize},
		{"other bytes", snap.Faults{}, "ABASE", sumOf(data), snap.ErrChecksum},
		{"other checksum", snap.Faults{}, "abase", sumOf("another"), snap.ErrChecksum},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			dir, faults := t.TempDir(), &snap.Faults{}
			s, err := snap.OpenWithFaults(dir, faults)
			require.NoError(t, err)
			tr := transferOf(data, 1, 7)
			at := half(t, s, data, tr)
			*faults = tc.faults
			_, err = s.ResumeDBFrom(strings.NewReader(tc.rest), tr, at, tc.sum)
			require.ErrorIs(t, err, tc.want)
			requireFiles(t, dir)
			offset, _ := s.PartialDB(tr)
			require.Zero(t, offset)
			*faults = snap.Faults{}
			_, err = s.ResumeDBFrom(strings.NewReader(data), tr, 0, sumOf(data))
			require.NoError(t, err)
			requireDB(t, s, 7, data)
		})
	}
	for name, sum := range map[string]func() (uint32, error){
		"checksum does not come": func() (uint32, error) { return 0, errCut },
		"shorter":                sumOf(data),
	} {
		t.Run(name, func(t *testing.T) { // that is the connection's fault: the rest may come
			dir := t.TempDir()
			s := openStore(t, dir)
			tr := transferOf(data, 1, 7)
			at := half(t, s, data, tr)
			rest := data[at:]
			if name == "shorter" {
				rest = rest[:1]
			}
			_, err := s.ResumeDBFrom(strings.NewReader(rest), tr, at, sum)
			require.Error(t, err)
			offset, _ := s.PartialDB(tr)
			require.Equal(t, at+int64(len(rest)), offset)
			_, err = s.ResumeDBFrom(strings.NewReader(data[offset:]), tr, offset, sumOf(data))
			require.NoError(t, err)
			requireDB(t, s, 7, data)
		})
	}
}

func TestResumeDBFromPanickingReader(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	require.PanicsWithValue(t, "in Read", func() {
		_, _ = s.ResumeDBFrom(readerFunc(func([]byte) (int, error) { panic("in Read") }), transferOf("db", 1, 7), 0, sumOf("db"))
	})
	requireFiles(t, dir)
}

// What waits for the rest is bounded, in number and in time, and Close removes it.
func TestPartialsAreBounded(t *testing.T) {
	const data = "a database"
	dir := t.TempDir()
	bubble.Test(t, func(t *testing.T) {
		faults := &snap.Faults{}
		s, err := snap.OpenWithFaults(dir, faults)
		require.NoError(t, err)
		faults.Remove = func() error {
			assert.False(t, s.Locked(), "PartialDB would wait for the disk")
			return nil
		}
		count := func() int {
			files, err := os.ReadDir(dir)
			require.NoError(t, err)
			return len(files)
		}
		has := func(from, index uint64) bool {
			offset, _ := s.PartialDB(transferOf(data, from, index))
			return offset > 0
		}
		half(t, s, data, transferOf(data, 1, 7))
		half(t, s, data, transferOf(data, 1, 8))
		require.Equal(t, 1, count(), "the newest of each sender")
		require.True(t, has(1, 8))
		for from := range uint64(10) {
			time.Sleep(time.Second)
			half(t, s, data, transferOf(data, from+2, 7))
		}
		require.Equal(t, 4, count(), "the oldest give way")
		for from := range uint64(10) {
			require.Equal(t, from >= 6, has(from+2, 7))
		}
		time.Sleep(10*time.Minute - 2*time.Second - 1)
		require.Equal(t, 3, count())
		_, err = s.ResumeDBFrom(cutAfter("se", 1), transferOf(data, 11, 7), 5, sumOf(data))
		require.ErrorIs(t, err, errCut)
		time.Sleep(2 * time.Minute)
		require.Equal(t, 1, count(), "but for the one that went on")
		require.NoError(t, s.Close())
		require.Zero(t, count())
	})
}

// A disk that is full has better use for its space than what only waits, whatever fails for want of it, and whichever
// transfer that is of.
// TestOnePartialOfEachSender: of transfers that ran side by side, the last to break waits.
func TestOnePartialOfEachSender(t *testing.T) {
	s := openStore(t, t.TempDir())
	data := strings.Repeat("x", 10_000)
	half(t, s, data, transferOf(data, 9, 1))
	var senders []*io.PipeWriter
	broken := make(chan error)
	for i := range uint64(4) {
		r, w := io.Pipe()
		go func() {
			_, err := s.ResumeDBFrom(r, transferOf(data, 1, 10+i), 0, sumOf(data))
			broken <- err
		}()
		_, err := w.Write([]byte(data[:5000]))
		require.NoError(t, err)
		senders = append(senders, w)
	}
	for i, w := range senders {
		require.NoError(t, w.CloseWithError(errCut))
		require.ErrorIs(t, <-broken, errCut)
		at, _ := s.PartialDB(transferOf(data, 1, 10+uint64(i)))
		require.EqualValues(t, 5000, at)
	}
	for i := range uint64(3) {
		at, _ := s.PartialDB(transferOf(data, 1, 10+i))
		require.Zero(t, at)
	}
	at, _ := s.PartialDB(transferOf(data, 9, 1))
	require.EqualValues(t, 5000, at, "of the other sender")
}

func TestPartialsGiveWayToAFullDisk(t *testing.T) {
	steps := map[string]func(f *snap.Faults, fault func() error){
		"create": func(f *snap.Faults, fault func() error) { f.CreateTemp = fault },
		"write":  func(f *snap.Faults, fault func() error) { f.Write = fault },
		"sync":   func(f *snap.Faults, fault func() error) { f.Sync = fault },
		"close":  func(f *snap.Faults, fault func() error) { f.Close = fault },
		"rename": func(f *snap.Faults, fault func() error) { f.Rename = fault },
		"names":  func(f *snap.Faults, fault func() error) { f.SyncDir = fault },
	}
	ways := map[string]func(*snap.Store) error{
		"plain": func(s *snap.Store) error {
			_, err := s.SaveDBFrom(strings.NewReader("db"), 7)
			return err
		},
		"resumed": func(s *snap.Store) error {
			_, err := s.ResumeDBFrom(strings.NewReader("db"), transferOf("db", 2, 7), 0, sumOf("db"))
			return err
		},
	}
	for step, set := range steps {
		for way, save := range ways {
			for _, full := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EIO} {
				t.Run(step+", "+way+", "+full.Error(), func(t *testing.T) {
					dir, faults := t.TempDir(), &snap.Faults{}
					s, err := snap.OpenWithFaults(dir, faults)
					require.NoError(t, err)
					half(t, s, "a database", transferOf("a database", 1, 7))
					set(faults, func() error { return full })
					require.ErrorIs(t, save(s), full)
					offset, _ := s.PartialDB(transferOf("a database", 1, 7))
					files, err := os.ReadDir(dir)
					require.NoError(t, err)
					if errors.Is(full, syscall.EIO) {
						require.EqualValues(t, 5, offset, "it is not in the way")
						require.Len(t, files, 1)
					} else {
						require.Zero(t, offset)
						require.Empty(t, files)
					}
				})
			}
		}
	}
}

// Of two transfers of one snapshot the last to be whole stays, and what is said of it is true: whoever sent the other one
// is not told that it is there.
func TestResumeDBFromReplaces(t *testing.T) {
	const first, other = "first", "the other"
	dir := t.TempDir()
	s := openStore(t, dir)
	save := func(data string, from uint64) {
		_, err := s.ResumeDBFrom(strings.NewReader(data), transferOf(data, from, 7), 0, sumOf(data))
		require.NoError(t, err)
		requireDB(t, s, 7, data)
		requireFiles(t, dir, "0000000000000007.snap.db")
	}
	has := func(data string, from uint64) bool {
		offset, _ := s.PartialDB(transferOf(data, from, 7))
		return offset > 0
	}
	save(first, 1)
	require.True(t, has(first, 1))
	save(other, 2)
	require.True(t, has(other, 2))
	require.False(t, has(first, 1))
	_, err := s.ResumeDBFrom(strings.NewReader(""), transferOf(first, 1, 7), int64(len(first)), sumOf(first))
	require.ErrorIs(t, err, snap.ErrOffset)

	_, err = s.SaveDBFrom(strings.NewReader(first), 7)
	require.NoError(t, err)
	require.False(t, has(other, 2))
}

// A database that was saved is not said to be there once its file has changed: it comes again, and heals that.
func TestPartialDBOfAChangedFile(t *testing.T) {
	const data = "database"
	changes := map[string]func(path string) error{
		"cut off":  func(path string) error { return os.Truncate(path, 4) },
		"longer":   func(path string) error { return os.Truncate(path, 9) },
		"touched":  func(path string) error { return os.Chtimes(path, time.Time{}, time.Unix(1, 0)) },
		"replaced": func(path string) error { return os.Rename(fileOf(t, "DATABASE"), path) },
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			s := openStore(t, t.TempDir())
			tr := transferOf(data, 1, 7)
			_, err := s.ResumeDBFrom(strings.NewReader(data), tr, 0, sumOf(data))
			require.NoError(t, err)
			offset, _ := s.PartialDB(tr)
			require.Equal(t, tr.Size, offset)
			path, err := s.DBFilePath(7)
			require.NoError(t, err)
			require.NoError(t, change(path))
			offset, _ = s.PartialDB(tr)
			require.Zero(t, offset)
			_, err = s.ResumeDBFrom(strings.NewReader(""), tr, tr.Size, sumOf(data))
			require.ErrorIs(t, err, snap.ErrOffset)
			_, err = s.ResumeDBFrom(strings.NewReader(data), tr, 0, sumOf(data))
			require.NoError(t, err)
			requireDB(t, s, 7, data)
			offset, _ = s.PartialDB(tr)
			require.Equal(t, tr.Size, offset)
		})
	}
}

// fileOf is a file with this data that was written a while ago.
func fileOf(t *testing.T, data string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, []byte(data), 0o600))
	require.NoError(t, os.Chtimes(path, time.Time{}, time.Unix(2, 0)))
	return path
}

// What is saved again, after the application took the file away, has the checksum of
// what came last.
func TestPartialDBOfWhatIsSavedAgain(t *testing.T) {
	s := openStore(t, t.TempDir())
	for _, data := range []string{"first", "other"} {
		tr := transferOf(data, 1, 7)
		_, err := s.ResumeDBFrom(strings.NewReader(data), tr, 0, sumOf(data))
		require.NoError(t, err)
		offset, sum := s.PartialDB(tr)
		require.Equal(t, tr.Size, offset)
		require.Equal(t, crc32.Checksum([]byte(data), castagnoli), sum)
		path, err := s.DBFilePath(7)
		require.NoError(t, err)
		require.NoError(t, os.Remove(path))
	}
}
