package storage_test

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/storage"
)

func open(t *testing.T, dir string) *storage.Storage {
	t.Helper()
	s, err := storage.Open(dir, storage.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func reopen(t *testing.T, s *storage.Storage, dir string) *storage.Storage {
	t.Helper()
	require.NoError(t, s.Close())
	return open(t, dir)
}

// entries returns entries from index lo to hi of a term.
func entries(lo, hi, term uint64) []*raftpb.Entry {
	var ents []*raftpb.Entry
	for i := lo; i <= hi; i++ {
		ents = append(ents, &raftpb.Entry{Index: new(i), Term: new(term), Data: fmt.Appendf(nil, "%d/%d", i, term)})
	}
	return ents
}

func hardState(term, vote, commit uint64) *raftpb.HardState {
	return &raftpb.HardState{Term: new(term), Vote: new(vote), Commit: new(commit)}
}

// apply makes the data the state after the entry at index.
func apply(t *testing.T, s *storage.Storage, index, term uint64, kv ...string) {
	t.Helper()
	b, err := s.Data.Begin()
	require.NoError(t, err)
	for i := 0; i < len(kv); i += 2 {
		require.NoError(t, b.Put([]byte(kv[i]), []byte(kv[i+1])))
	}
	b.SetConfState(&raftpb.ConfState{Voters: []uint64{1, 2, 3}})
	require.NoError(t, b.Commit(storage.Position{Index: index, Term: term}))
}

// logText is all entries of the log, as text.
func logText(t *testing.T, s *storage.Storage) string {
	t.Helper()
	first, last, _ := s.Log.Extent()
	if first > last {
		return ""
	}
	ents, err := s.Raft().Entries(first, last+1, math.MaxUint64)
	require.NoError(t, err)
	text := ""
	for _, e := range ents {
		text += string(e.GetData()) + " "
	}
	return text
}

func TestLogSurvivesReopen(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	require.NoError(t, s.Log.Save(hardState(1, 2, 0), entries(1, 3, 1)))
	require.NoError(t, s.Log.Save(nil, entries(4, 4, 1)))
	require.NoError(t, s.Log.SetIdentity(storage.Identity{ID: 7, ClusterID: 8}))

	s = reopen(t, s, dir)
	require.Equal(t, "1/1 2/1 3/1 4/1 ", logText(t, s))
	hs, _, err := s.Raft().InitialState()
	require.NoError(t, err)
	require.Equal(t, [3]uint64{1, 2, 0}, [3]uint64{hs.GetTerm(), hs.GetVote(), hs.GetCommit()})
	id, ok, err := s.Log.Identity()
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, storage.Identity{ID: 7, ClusterID: 8}, id)
}

func TestLogOverwritesSuffix(t *testing.T) {
	for _, tc := range []struct {
		name string
		ents []*raftpb.Entry
		want string
	}{
		{"shorter than what was there", entries(3, 3, 2), "1/1 2/1 3/2 "},
		{"longer than what was there", entries(4, 7, 2), "1/1 2/1 3/1 4/2 5/2 6/2 7/2 "},
		{"everything", entries(1, 1, 2), "1/2 "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir)
			require.NoError(t, s.Log.Save(nil, entries(1, 5, 1)))
			require.NoError(t, s.Log.Save(nil, tc.ents))
			require.Equal(t, tc.want, logText(t, s))
			require.Equal(t, tc.want, logText(t, reopen(t, s, dir)))
		})
	}
}

func TestCompact(t *testing.T) {
	for _, tc := range []struct {
		name        string
		keepEntries uint64
		keepBytes   int64
		want        string
		dropped     uint64
	}{
		{"all that is applied", 0, 1 << 20, "9/1 10/1 ", 8},
		{"keeps entries", 3, 1 << 20, "6/1 7/1 8/1 9/1 10/1 ", 5},
		{"keeps fewer entries that are large", 3, 7, "7/1 8/1 9/1 10/1 ", 6},
		{"few entries that are large", 8, 10, "6/1 7/1 8/1 9/1 10/1 ", 5},
		{"no bound on entries", math.MaxUint64, 10, "6/1 7/1 8/1 9/1 10/1 ", 5},
		{"keeps more than there are", 8, 1 << 20, "1/1 2/1 3/1 4/1 5/1 6/1 7/1 8/1 9/1 10/1 ", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir)
			require.NoError(t, s.Log.Save(hardState(1, 1, 8), entries(1, 10, 1)))
			apply(t, s, 8, 1)
			dropped, err := s.Log.Compact(8, tc.keepEntries, tc.keepBytes)
			require.NoError(t, err)
			require.Equal(t, tc.dropped, dropped)
			require.Equal(t, tc.want, logText(t, s))

			s = reopen(t, s, dir)
			require.Equal(t, tc.want, logText(t, s))
			first, _, _ := s.Log.Extent()
			term, err := s.Raft().Term(first - 1) // raft must be able to match the entry before
			require.NoError(t, err)
			require.Equal(t, min(first-1, 1), term)
		})
	}
}

// TestExtent: the bytes are those of the entries that the log has, whichever way they came and went.
func TestExtent(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	requireBytes := func(want string) {
		t.Helper()
		_, _, bytes := s.Log.Extent()
		require.Equal(t, want, logText(t, s))
		require.EqualValues(t, len(strings.ReplaceAll(want, " ", "")), bytes)
	}
	require.NoError(t, s.Log.Save(nil, entries(8, 11, 1)[:0]))
	requireBytes("")
	require.NoError(t, s.Log.Save(nil, entries(1, 11, 1)))
	requireBytes("1/1 2/1 3/1 4/1 5/1 6/1 7/1 8/1 9/1 10/1 11/1 ")
	require.NoError(t, s.Log.Save(nil, entries(9, 10, 2)))
	requireBytes("1/1 2/1 3/1 4/1 5/1 6/1 7/1 8/1 9/2 10/2 ")
	apply(t, s, 9, 2)
	_, err := s.Log.Compact(9, 2, math.MaxInt64)
	require.NoError(t, err)
	requireBytes("8/1 9/2 10/2 ")
	s = reopen(t, s, dir)
	requireBytes("8/1 9/2 10/2 ")
	path, meta := saveSnapshot(t, ahead(t))
	require.NoError(t, s.InstallSnapshot(path, meta, nil))
	requireBytes("")
}

func TestLogRefusesGap(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	require.NoError(t, s.Log.Save(nil, entries(1, 2, 1)))
	require.NoError(t, s.Close())
	storage.PutLogEntry(t, filepath.Join(dir, "log.db"), entries(4, 4, 1)[0])
	_, err := storage.Open(dir, storage.Options{})
	require.ErrorContains(t, err, "entry 3 is missing")
}

func TestOpenTwice(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	_, err := storage.Open(dir, storage.Options{})
	require.ErrorContains(t, err, "in use by another process")
}

func TestDataSurvivesReopen(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	require.NoError(t, s.Log.Save(hardState(1, 1, 1), entries(1, 5, 1)))
	b, err := s.Data.Begin()
	require.NoError(t, err)
	require.NoError(t, b.Put([]byte("a"), []byte("1")))
	require.NoError(t, b.Put([]byte("empty"), nil))
	b.SetConfState(&raftpb.ConfState{Voters: []uint64{1}, Learners: []uint64{2}})
	ms := storage.Membership{}.With(storage.Member{ID: 1}).With(storage.Member{ID: 2, Learner: true}).With(storage.Member{ID: 3}).Without(3)
	b.SetMembership(ms)
	require.NoError(t, b.Commit(storage.Position{Index: 5, Term: 1}))

	b, err = s.Data.Begin()
	require.NoError(t, err)
	require.NoError(t, b.Put([]byte("a"), []byte("not committed")))
	require.NoError(t, b.Rollback())

	s = reopen(t, s, dir)
	v, ok, err := s.Data.Get([]byte("a"))
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, "1", string(v))
	_, ok, err = s.Data.Get([]byte("empty"))
	require.NoError(t, err)
	require.True(t, ok)
	_, ok, err = s.Data.Get([]byte("b"))
	require.NoError(t, err)
	require.False(t, ok)
	require.Equal(t, storage.Position{Index: 5, Term: 1}, s.Data.Position())
	require.Equal(t, ms, s.Data.Membership())
	require.Equal(t, 1, s.Data.Membership().Voters())

	// The hard state on disk says commit 1: the data knows better.
	hs, cs, err := s.Raft().InitialState()
	require.NoError(t, err)
	require.Equal(t, uint64(5), hs.GetCommit())
	require.NoError(t, cs.Equivalent(&raftpb.ConfState{Voters: []uint64{1}, Learners: []uint64{2}}))
}

func TestDelete(t *testing.T) {
	s := open(t, t.TempDir())
	apply(t, s, 1, 1, "a", "1")
	b, err := s.Data.Begin()
	require.NoError(t, err)
	for _, want := range []bool{true, false} {
		was, err := b.Delete([]byte("a"))
		require.NoError(t, err)
		require.Equal(t, want, was)
	}
	require.NoError(t, b.Commit(storage.Position{Index: 2, Term: 1}))
	_, ok, err := s.Data.Get([]byte("a"))
	require.NoError(t, err)
	require.False(t, ok)
}

func TestDigest(t *testing.T) {
	a, b := open(t, t.TempDir()), open(t, t.TempDir())
	apply(t, a, 1, 1, "k", "v")
	apply(t, a, 2, 1, "l", "w")
	apply(t, b, 2, 1, "l", "w", "k", "v")
	da, err := a.Data.Digest()
	require.NoError(t, err)
	db, err := b.Data.Digest()
	require.NoError(t, err)
	require.Equal(t, da, db)
	require.Equal(t, 2, da.Keys)

	apply(t, b, 3, 1, "l", "x")
	db, err = b.Data.Digest()
	require.NoError(t, err)
	require.NotEqual(t, da.Hash, db.Hash)
}

// saveSnapshot copies what from has, as a snapshot that has arrived.
func saveSnapshot(t *testing.T, from *storage.Storage) (path string, meta *raftpb.SnapshotMetadata) {
	t.Helper()
	c, err := from.Data.Copy(t.Context(), t.TempDir())
	require.NoError(t, err)
	require.NoError(t, c.File.Close())
	return c.File.Name(), c.Metadata
}

// behind returns a member with a log that the snapshot of ahead replaces.
func behind(t *testing.T, dir string) *storage.Storage {
	t.Helper()
	s := open(t, dir)
	require.NoError(t, s.Log.Save(hardState(2, 3, 2), entries(1, 20, 2)))
	apply(t, s, 2, 2, "old", "1")
	return s
}

func ahead(t *testing.T) *storage.Storage {
	t.Helper()
	s := open(t, t.TempDir())
	require.NoError(t, s.Log.Save(nil, entries(1, 10, 4)))
	apply(t, s, 10, 4, "new", "2")
	return s
}

func requireInstalled(t *testing.T, s *storage.Storage) {
	t.Helper()
	_, ok, err := s.Data.Get([]byte("old"))
	require.NoError(t, err)
	require.False(t, ok)
	v, ok, err := s.Data.Get([]byte("new"))
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, "2", string(v))
	first, last, _ := s.Log.Extent()
	require.Equal(t, [2]uint64{11, 10}, [2]uint64{first, last})
	term, err := s.Raft().Term(10)
	require.NoError(t, err)
	require.Equal(t, uint64(4), term)
	// Raft takes it as it is, and can append to it.
	_, err = raft.NewRawNode(&raft.Config{ID: 1, ElectionTick: 10, HeartbeatTick: 1, MaxInflightMsgs: 1, Storage: s.Raft()})
	require.NoError(t, err)
	require.NoError(t, s.Log.Save(nil, entries(11, 12, 4)))
}

func TestInstallSnapshot(t *testing.T) {
	dir := t.TempDir()
	s := behind(t, dir)
	path, meta := saveSnapshot(t, ahead(t))
	require.NoError(t, s.InstallSnapshot(path, meta, hardState(5, 2, 10)))
	requireInstalled(t, s)
	s = reopen(t, s, dir)
	require.Equal(t, "11/4 12/4 ", logText(t, s))
	hs, _, err := s.Raft().InitialState()
	require.NoError(t, err)
	require.Equal(t, [3]uint64{5, 2, 10}, [3]uint64{hs.GetTerm(), hs.GetVote(), hs.GetCommit()})
}

// The data is swapped by one rename, and the log is restarted after it: the only
// state a crash can leave in between has the new data and the old log.
func TestCrashWhileInstallingSnapshot(t *testing.T) {
	for _, tc := range []struct {
		name string
		log  []*raftpb.Entry
	}{
		{"log shorter than the snapshot", entries(1, 5, 2)},
		{"log longer than the snapshot", entries(1, 20, 2)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir)
			require.NoError(t, s.Log.Save(hardState(2, 3, 2), tc.log))
			apply(t, s, 2, 2, "old", "1")
			require.NoError(t, s.Close())
			path, _ := saveSnapshot(t, ahead(t))
			require.NoError(t, os.Rename(path, filepath.Join(dir, "data.db")))

			s = open(t, dir)
			hs, _, err := s.Raft().InitialState()
			require.NoError(t, err)
			// A term that it has entries of, and no vote in it.
			require.Equal(t, [3]uint64{4, 0, 10}, [3]uint64{hs.GetTerm(), hs.GetVote(), hs.GetCommit()})
			requireInstalled(t, s)
		})
	}
}

func TestInstallRefusesWrongFile(t *testing.T) {
	garbage := filepath.Join(t.TempDir(), "garbage")
	require.NoError(t, os.WriteFile(garbage, make([]byte, 1<<16), 0o600))
	path, meta := saveSnapshot(t, ahead(t))
	other := &raftpb.SnapshotMetadata{Index: new(uint64(11)), Term: new(uint64(4))}
	for name, install := range map[string]func(*storage.Storage) error{
		"not a database":   func(s *storage.Storage) error { return s.InstallSnapshot(garbage, meta, nil) },
		"missing":          func(s *storage.Storage) error { return s.InstallSnapshot(garbage+"x", meta, nil) },
		"of another index": func(s *storage.Storage) error { return s.InstallSnapshot(path, other, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			s := behind(t, t.TempDir())
			require.Error(t, install(s))
			require.Equal(t, storage.Position{Index: 2, Term: 2}, s.Data.Position())
			_, ok, err := s.Data.Get([]byte("old"))
			require.NoError(t, err)
			require.True(t, ok)
		})
	}
}

func TestLogAndDataOfDifferentMembers(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	require.NoError(t, s.Log.Save(nil, entries(1, 10, 1)))
	apply(t, s, 10, 1)
	_, err := s.Log.Compact(10, 0, 0)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	require.NoError(t, os.Remove(filepath.Join(dir, "data.db")))
	_, err = storage.Open(dir, storage.Options{})
	require.ErrorContains(t, err, "do not belong together")
}
