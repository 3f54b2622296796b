package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// ready is what raft wants to be saved: an entry, and a vote in its term.
func ready(index, term uint64) raft.Ready {
	return raft.Ready{
		HardState: &raftpb.HardState{Term: &term, Vote: new(2 + term), Commit: new(index - 1)},
		Entries:   []*raftpb.Entry{{Index: &index, Term: &term, Data: fmt.Appendf(nil, "%d/%d", index, term)}},
		MustSync:  true,
	}
}

// withoutSync makes a test quick that no loss of power can disturb.
func withoutSync(t *testing.T) {
	fsync = func(*os.File) error { return nil }
	t.Cleanup(func() { fsync = (*os.File).Sync })
}

var member1 = owner{Member: 1, Cluster: clusterID}

// writeLog saves what raft wants, and returns the file and where in it each record ends: the owner and the saves.
func writeLog(t *testing.T, all ...raft.Ready) (file []byte, ends []int) {
	t.Helper()
	dir := t.TempDir()
	log, err := openLog(dir, member1, true)
	require.NoError(t, err)
	ended := func() {
		info, err := log.file.Stat()
		require.NoError(t, err)
		ends = append(ends, int(info.Size()))
	}
	ended()
	for _, rd := range all {
		require.NoError(t, log.save(rd))
		ended()
	}
	require.NoError(t, log.file.Close())
	file, err = os.ReadFile(filepath.Join(dir, "raft.log"))
	require.NoError(t, err)
	return file, ends
}

// readLog opens a log with this file, and returns its entries and the vote.
func readLog(t *testing.T, dir string, file []byte, found bool) (entries []string, vote uint64, err error) {
	t.Helper()
	path := filepath.Join(dir, "raft.log")
	require.NoError(t, os.WriteFile(path, file, 0o600))
	log, err := openLog(dir, member1, found)
	if err != nil {
		after, rerr := os.ReadFile(path)
		require.NoError(t, rerr)
		require.Equal(t, file, after, "an error leaves the file as it is")
		return nil, 0, err
	}
	defer log.file.Close()
	entries, vote = contents(t, log)
	last := uint64(len(entries))
	require.NoError(t, log.save(ready(last+1, 9))) // it goes on
	require.NoError(t, log.file.Close())
	log, err = openLog(dir, member1, false)
	require.NoError(t, err)
	defer log.file.Close()
	again, _ := contents(t, log)
	require.Equal(t, append(slices.Clone(entries), fmt.Sprintf("%d/9", last+1)), again)
	return entries, vote, nil
}

func contents(t *testing.T, log *diskLog) (entries []string, vote uint64) {
	t.Helper()
	state, _, err := log.InitialState()
	require.NoError(t, err)
	last, err := log.LastIndex()
	require.NoError(t, err)
	if last > 0 {
		ents, err := log.Entries(1, last+1, math.MaxUint64)
		require.NoError(t, err)
		for _, e := range ents {
			entries = append(entries, string(e.Data))
		}
	}
	return entries, state.GetVote()
}

// What was saved is there after a crash; a save that a crash cut off is not, and does no harm. A crash before the log has an
// owner leaves none: it is founded again.
func TestLogSurvivesACrash(t *testing.T) {
	withoutSync(t)
	whole, ends := writeLog(t, ready(1, 1), ready(2, 1), ready(2, 2))
	want := [][]string{nil, nil, {"1/1"}, {"1/1", "2/1"}, {"1/1", "2/2"}}
	votes := []uint64{0, 0, 3, 3, 4}
	dir := t.TempDir()
	for n := range len(whole) + 1 {
		records := 0
		for records < len(ends) && ends[records] <= n {
			records++
		}
		for name, file := range map[string][]byte{
			"cut off":         whole[:n],
			"never came":      append(slices.Clone(whole[:n]), make([]byte, len(whole[n:]))...),
			"longer than all": append(slices.Clone(whole[:n]), 0xff, 0xff, 0xff),
		} {
			_, _, err := readLog(t, dir, file, records > 0)
			require.ErrorIs(t, err, map[bool]error{false: errNoLog, true: errLogExists}[records > 0], "%s at %d", name, n)
			entries, vote, err := readLog(t, dir, file, records == 0)
			require.NoError(t, err, "%s at %d", name, n)
			require.Equal(t, want[records], entries, "%s at %d", name, n)
			require.Equal(t, votes[records], vote, "%s at %d", name, n)
		}
	}
}

// One wrong bit, wherever it is, takes nothing of what was saved before the last save: the server does not start, and
// says where. In the last save it cannot be told from a crash.
func TestLogWithAWrongBit(t *testing.T) {
	withoutSync(t)
	const saves = 20
	var all []raft.Ready
	var want []string
	for i := range uint64(saves) {
		all = append(all, ready(i+1, 1))
		want = append(want, fmt.Sprintf("%d/1", i+1))
	}
	whole, ends := writeLog(t, all...)
	dir := t.TempDir()
	for at := range whole {
		file := slices.Clone(whole)
		file[at] ^= 1 << (at % 8)
		entries, _, err := readLog(t, dir, file, false)
		if at < ends[saves-1] {
			require.ErrorIs(t, err, errCorrupt, "byte %d", at)
			begin := 0
			for i := 0; ends[i] <= at; i++ {
				begin = ends[i]
			}
			require.ErrorContains(t, err, fmt.Sprintf("raft.log: the log is corrupt at byte %d", begin))
			continue
		}
		require.NoError(t, err, "byte %d", at)
		require.Equal(t, want[:saves-1], entries)
	}
}

// Everything that a member acts on is durable: what it saves, what it finds of an earlier life, and the names of its files.
func TestLogIsSynced(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "a", "b")
	file := filepath.Join(dir, "raft.log")
	var synced []string
	fsync = func(f *os.File) error {
		synced = append(synced, f.Name())
		return f.Sync()
	}
	defer func() { fsync = (*os.File).Sync }()
	log, err := openLog(dir, member1, true)
	require.NoError(t, err)
	require.Equal(t, []string{top, filepath.Join(top, "a"), file, dir}, synced)
	synced = nil
	require.NoError(t, log.save(ready(1, 1)))
	require.Equal(t, []string{file}, synced)

	// The commit index alone is learned again: it is no save, which would come between one and its sync.
	before, err := log.file.Stat()
	require.NoError(t, err)
	require.NoError(t, log.save(raft.Ready{HardState: &raftpb.HardState{Term: new(uint64(1)), Vote: new(uint64(3)), Commit: new(uint64(1))}}))
	after, err := log.file.Stat()
	require.NoError(t, err)
	require.Equal(t, before.Size(), after.Size())
	state, _, err := log.InitialState()
	require.NoError(t, err)
	require.EqualValues(t, 1, state.GetCommit())
	require.NoError(t, log.file.Close())

	synced = nil
	log, err = openLog(dir, member1, false)
	require.NoError(t, err)
	defer log.file.Close()
	require.Equal(t, []string{file, dir}, synced)
}
