package snap_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/snap"
)

func nameOf(index uint64) string { return fmt.Sprintf("%016x.snap.db", index) }

func saveDB(t *testing.T, s *snap.Store, index uint64, data string) {
	t.Helper()
	_, err := s.SaveDBFrom(strings.NewReader(data), index)
	require.NoError(t, err)
}

// TestRemoveUnclaimed: what earlier lives of a server have left, and it does not claim, goes: ten crashes between saving
// and installing leave ten databases.
func TestRemoveUnclaimed(t *testing.T) {
	dir := t.TempDir()
	for index := range uint64(10) {
		s := openStore(t, dir)
		saveDB(t, s, index, "database")
		require.NoError(t, s.Close())
	}
	others := []string{"notes.txt", "1.snap.db", "0000000000000003.snap"}
	for _, name := range others {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	}
	faults := &snap.Faults{}
	s, err := snap.OpenWithFaults(dir, faults)
	require.NoError(t, err)
	saveDB(t, s, 3, "saved again")
	saveDB(t, s, 20, "new")
	fails := 0
	faults.Remove = func() error {
		if fails++; fails == 2 {
			return syscall.EIO
		}
		return nil
	}
	require.ErrorIs(t, s.RemoveUnclaimed(5, 99), syscall.EIO)
	requireFiles(t, dir, append(others, nameOf(1), nameOf(3), nameOf(5), nameOf(20))...)
	require.NoError(t, s.RemoveUnclaimed(5))
	requireFiles(t, dir, append(others, nameOf(3), nameOf(5), nameOf(20))...)
	require.NoError(t, s.RemoveUnclaimed())
	requireFiles(t, dir, append(others, nameOf(3), nameOf(20))...)
	requireDB(t, s, 3, "saved again")
	require.NoError(t, s.Close())
	require.ErrorIs(t, s.RemoveUnclaimed(), os.ErrClosed)
}

func TestRemoveUnclaimedOfWhatIsGone(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	for index := range uint64(3) {
		saveDB(t, s, index, "database")
	}
	require.NoError(t, s.Close())
	s = openStore(t, dir)
	require.NoError(t, s.RemoveBefore(1))
	saveDB(t, s, 0, "came again")
	require.NoError(t, os.Remove(filepath.Join(dir, nameOf(1))))
	require.NoError(t, s.RemoveUnclaimed())
	requireFiles(t, dir, nameOf(0))
}

// TestDiscardDB: a database goes when nobody uses it any more, and stays for whoever else was told that it is there.
func TestDiscardDB(t *testing.T) {
	const data = "database"
	resume := func(t *testing.T, s *snap.Store, from uint64) {
		tr := transferOf(data, from, 7)
		offset, _ := s.PartialDB(tr)
		_, err := s.ResumeDBFrom(strings.NewReader(data[offset:]), tr, offset, sumOf(data))
		require.NoError(t, err)
	}
	cause := errors.New("not processed")
	tests := map[string]struct {
		saves    func(t *testing.T, s *snap.Store)
		discards int // that leave none
	}{
		"saved":                  {func(t *testing.T, s *snap.Store) { saveDB(t, s, 7, data) }, 1},
		"resumed":                {func(t *testing.T, s *snap.Store) { resume(t, s, 1) }, 1},
		"saved twice":            {func(t *testing.T, s *snap.Store) { saveDB(t, s, 7, data); resume(t, s, 1) }, 2},
		"found to be there":      {func(t *testing.T, s *snap.Store) { resume(t, s, 1); resume(t, s, 1); resume(t, s, 1) }, 3},
		"of two senders":         {func(t *testing.T, s *snap.Store) { resume(t, s, 1); resume(t, s, 2); resume(t, s, 1) }, 3},
		"discarded, saved again": {func(t *testing.T, s *snap.Store) { saveDB(t, s, 7, data); s.DiscardDB(7, cause); saveDB(t, s, 7, data) }, 1},
		"removed, saved again": {func(t *testing.T, s *snap.Store) {
			saveDB(t, s, 7, data)
			saveDB(t, s, 7, data)
			require.NoError(t, s.RemoveBefore(8))
			saveDB(t, s, 7, data)
		}, 1},
		"taken away, saved again": {func(t *testing.T, s *snap.Store) {
			saveDB(t, s, 7, data)
			path, err := s.DBFilePath(7)
			require.NoError(t, err)
			require.NoError(t, os.Rename(path, filepath.Join(t.TempDir(), "db")))
			saveDB(t, s, 7, data)
		}, 1},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := openStore(t, dir)
			saveDB(t, s, 10, "another")
			tc.saves(t, s)
			for range tc.discards {
				requireDB(t, s, 7, data)
				s.DiscardDB(7, cause)
			}
			s.DiscardDB(7, cause)
			s.DiscardDB(9, cause)
			require.NoError(t, s.Close())
			s.DiscardDB(10, cause)
			requireFiles(t, dir, nameOf(10))
		})
	}
}

// What an earlier life of the server saved, and may have claimed, is not discarded with what came since.
func TestDiscardDBOfAnEarlierLife(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	saveDB(t, s, 7, "database")
	require.NoError(t, s.Close())
	s = openStore(t, dir)
	s.DiscardDB(7, nil)
	requireDB(t, s, 7, "database")
	saveDB(t, s, 7, "another")
	s.DiscardDB(7, nil)
	requireDB(t, s, 7, "another")
	require.NoError(t, s.RemoveUnclaimed())
	requireDB(t, s, 7, "another")
	require.NoError(t, s.Close())
	s = openStore(t, dir)
	require.NoError(t, s.RemoveUnclaimed())
	requireFiles(t, dir)
}

// A server that takes files away without a word costs no memory for good.
func TestUsesAreBounded(t *testing.T) {
	d := emptyDisk()
	s, err := snap.OpenOn(powerlossDir, d)
	require.NoError(t, err)
	for index := range uint64(1000) {
		saveDB(t, s, index, "")
		require.NoError(t, d.Remove(filepath.Join(powerlossDir, nameOf(index))))
	}
	require.Equal(t, 256, s.Counted())
	saveDB(t, s, 1001, "")
	s.DiscardDB(1001, nil)
	_, err = s.DBFilePath(1001)
	require.ErrorIs(t, err, snap.ErrNoDBSnapshot)
}

// TestPrepareDB: a database for which there is no room is refused before it comes, if that does not help that what waits
// for its rest gives way.
func TestPrepareDB(t *testing.T) {
	const data = "0123456789"
	snapshot := func(index uint64) *raftpb.Message {
		return &raftpb.Message{Type: raftpb.MsgSnap.Enum(), From: new(uint64(1)), Snapshot: &raftpb.Snapshot{
			Metadata: &raftpb.SnapshotMetadata{Index: new(index), Term: new(uint64(3))},
		}}
	}
	tests := []struct {
		name        string
		index       uint64
		size        int64
		free, freed int64 // before and after others give way
		left        int   // that wait for their rest
		err         error
	}{
		{"room", 9, 100, 100, 100, 2, nil},
		{"size not known", 9, -1, 0, 0, 2, nil},
		{"empty", 9, 0, 0, 0, 2, nil},
		{"room if others give way", 9, 100, 99, 100, 0, nil},
		{"no room", 9, 100, 99, 99, 0, syscall.ENOSPC},
		{"room for the rest of it", 7, 10, 5, 5, 2, nil},
		{"room for the rest of it, if others give way", 7, 10, 4, 5, 1, nil},
		{"no room for the rest of it", 7, 10, 4, 4, 1, syscall.ENOSPC},
		{"of another size", 7, 11, 10, 11, 0, nil},
		{"the part is from another sender", 8, 10, 9, 10, 0, nil},
		{"no room even if others gave way", 9, 1000, 989, 1000, 2, syscall.ENOSPC},
		{"more than any disk has", 9, 1 << 62, 100, 100, 2, syscall.ENOSPC},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			dir, faults := t.TempDir(), &snap.Faults{}
			s, err := snap.OpenWithFaults(dir, faults)
			require.NoError(t, err)
			half(t, s, data, transferOf(data, 1, 7))
			half(t, s, data, transferOf(data, 2, 8))
			removed := false
			faults.Remove = func() error { removed = true; return nil }
			faults.Free = func() (int64, error) {
				if removed {
					return tc.freed, nil
				}
				return tc.free, nil
			}
			saver, err := s.PrepareDB(t.Context(), snapshot(tc.index), tc.size)
			require.ErrorIs(t, err, tc.err)
			require.Nil(t, saver)
			files, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Len(t, files, tc.left)
		})
	}
	s := openStore(t, t.TempDir())
	_, err := s.PrepareDB(t.Context(), snapshot(9), 1)
	require.NoError(t, err, "a file system that is there")
	_, err = s.PrepareDB(t.Context(), snapshot(9), 1<<62)
	require.ErrorIs(t, err, syscall.ENOSPC)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errCut)
	_, err = s.PrepareDB(ctx, snapshot(9), 1)
	require.ErrorIs(t, err, errCut)
	require.NoError(t, s.Close())
	_, err = s.PrepareDB(t.Context(), snapshot(9), 1)
	require.ErrorIs(t, err, os.ErrClosed)

	faults := &snap.Faults{Free: func() (int64, error) { return 0, errors.ErrUnsupported }}
	s, err = snap.OpenWithFaults(t.TempDir(), faults)
	require.NoError(t, err)
	_, err = s.PrepareDB(t.Context(), snapshot(9), 1<<62)
	require.NoError(t, err, "nobody knows")
}

// TestPrepareDBOfASavedDatabase: its answer got lost, so it is sent again, of which
// nothing will be written.
func TestPrepareDBOfASavedDatabase(t *testing.T) {
	const data = "0123456789"
	faults := &snap.Faults{Free: func() (int64, error) { return 0, nil }}
	s, err := snap.OpenWithFaults(t.TempDir(), faults)
	require.NoError(t, err)
	of := transferOf(data, 1, 7)
	_, err = s.ResumeDBFrom(strings.NewReader(data), of, 0, sumOf(data))
	require.NoError(t, err)
	m := &raftpb.Message{Type: raftpb.MsgSnap.Enum(), From: &of.From, Snapshot: &raftpb.Snapshot{
		Metadata: &raftpb.SnapshotMetadata{Index: &of.Index, Term: &of.Term},
	}}
	_, err = s.PrepareDB(t.Context(), m, of.Size)
	require.NoError(t, err)
	_, err = s.PrepareDB(t.Context(), m, of.Size+1)
	require.ErrorIs(t, err, syscall.ENOSPC)
}

// TestPrepareDBCountsWhatIsAllocated: room that was allocated ahead of what has arrived
// is no longer free, and is for the rest.
func TestPrepareDBCountsWhatIsAllocated(t *testing.T) {
	s := openStore(t, t.TempDir())
	data := strings.Repeat("x", 1<<20)
	of := transferOf(data, 1, 7)
	half(t, s, data, of)
	part, others := s.IdleRoom(of)
	require.Zero(t, others)
	require.GreaterOrEqual(t, part, of.Size/2)
	if runtime.GOOS == "linux" {
		require.Equal(t, of.Size, part)
	}
	room := part
	part, others = s.IdleRoom(transferOf(data, 2, 7))
	require.Zero(t, part)
	require.Equal(t, room, others)
}
