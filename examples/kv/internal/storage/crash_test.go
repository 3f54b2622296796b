package storage_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"

	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/crashdisk"
	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/storage"
)

// life is what a server does with a Storage, step by step.
type life struct {
	t    *testing.T
	dir  string
	disk *crashdisk.Disk
	s    *storage.Storage
}

// step is one call of Storage. What a crash in it leaves is the state before, or
// the state after it, or one of those between that it names.
type step struct {
	name    string
	do      func(*life) error
	between []string
}

func (l *life) open() (err error) {
	if l.s != nil {
		_ = l.s.Close()
	}
	l.s, err = storage.Open(filepath.Join(l.dir, "a", "data"), storage.Options{Disk: l.disk, MmapBytes: 1 << 16})
	return err
}

// state is all that a Storage knows.
func (l *life) state() string {
	l.t.Helper()
	hs, cs, err := l.s.Raft().InitialState()
	require.NoError(l.t, err)
	_, durable, _ := l.s.Log.Extent()
	require.LessOrEqual(l.t, hs.GetCommit(), durable, "raft would panic")
	id, _, err := l.s.Log.Identity()
	require.NoError(l.t, err)
	first, last, bytes := l.s.Log.Extent()
	digest, err := l.s.Data.Digest()
	require.NoError(l.t, err)
	return fmt.Sprintf("term %d vote %d commit %d; log %d to %d, %d bytes: %s; data %d: %.8s, %v; member %d",
		hs.GetTerm(), hs.GetVote(), hs.GetCommit(), first, last, bytes, logText(l.t, l.s), digest.Applied, digest.Hash, cs.GetVoters(), id.ID)
}

// write commits a batch, as apply does, but may crash.
func (l *life) write(index, term uint64, key, value string) error {
	b, err := l.s.Data.Begin()
	if err != nil {
		return err
	}
	if err := b.Put([]byte(key), []byte(value)); err != nil {
		return err
	}
	return b.Commit(storage.Position{Index: index, Term: term})
}

func (l *life) compact(index uint64) error {
	_, err := l.s.Log.Compact(index, 1, 1<<20)
	return err
}

// install installs a snapshot of entry 10 in term 4, which arrives in a folder of its own. The commit index is that of the
// same Ready, which has entries behind the snapshot. If its data is there, raft wants no more than the hard state.
func (l *life) install() error {
	if l.s.Data.Position().Index == 10 {
		return l.s.Log.Save(hardState(5, 2, 10), nil)
	}
	dir := filepath.Join(l.dir, "a", "data", "snap")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	from := ahead(l.t)
	path, meta := saveSnapshot(l.t, from)
	require.NoError(l.t, from.Close())
	arrived := filepath.Join(dir, "snap.db")
	require.NoError(l.t, os.Rename(path, arrived))
	return l.s.InstallSnapshot(arrived, meta, hardState(5, 2, 12))
}

func steps() []step {
	return []step{
		{"open", (*life).open, nil},
		{"found", func(l *life) error { return l.s.Log.SetIdentity(storage.Identity{ID: 7, ClusterID: 8}) }, nil},
		{"save", func(l *life) error { return l.s.Log.Save(hardState(1, 7, 2), entries(1, 4, 1)) }, nil},
		{"apply", func(l *life) error { return l.write(2, 1, "old", "1") }, nil},
		{"replace", func(l *life) error { return l.s.Log.Save(hardState(2, 3, 2), entries(3, 6, 2)) }, nil},
		{"apply more", func(l *life) error { return l.write(5, 2, "old", "2") }, nil},
		{"compact", func(l *life) error { return l.compact(5) }, nil},
		{"reopen", (*life).open, nil},
		// The new data may be there, and the log not: then what was promised in
		// the old term is forgotten with the term, and nothing was in the new one.
		{"install", (*life).install, []string{"term 4 vote 0 commit 10; log 11 to 10, 0 bytes: ; data 10: "}},
		{"save behind it", func(l *life) error { return l.s.Log.Save(hardState(5, 2, 12), entries(11, 12, 5)) }, nil},
		{"apply behind it", func(l *life) error { return l.write(12, 5, "newer", "3") }, nil},
		{"compact behind it", func(l *life) error { return l.compact(12) }, nil},
	}
}

// live takes the steps until a crash, and returns how many it has taken.
func (l *life) live(all []step) int {
	for i, s := range all {
		if err := s.do(l); err != nil {
			require.ErrorIs(l.t, err, crashdisk.ErrCrashed, s.name)
			return i
		}
	}
	return len(all)
}

// TestCrash: a member dies at each write and sync of a life, and the machine goes on, or loses what was not synced. It
// then has what it had before the step, or after it, and goes on from there to the end of its life.
func TestCrash(t *testing.T) {
	all := steps()
	clean := &life{t: t, dir: t.TempDir(), disk: &crashdisk.Disk{}}
	states := []string{""} // after so many steps
	for _, s := range all {
		require.NoError(t, s.do(clean), s.name)
		states = append(states, clean.state())
	}
	end := states[len(all)]
	require.NoError(t, clean.s.Close())
	calls := clean.disk.Calls()
	require.Greater(t, calls, 40)
	for _, name := range slices.Sorted(maps.Keys(crashdisk.Crashes)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for at := 1; at <= calls; at++ {
				crash, where := crashdisk.Crashes[name], ""
				disk := &crashdisk.Disk{Crashes: func(call int, what string) *crashdisk.Crash {
					if call != at {
						return nil
					}
					where = fmt.Sprintf("call %d, %s", call, what)
					return &crash
				}}
				l := &life{t: t, dir: t.TempDir(), disk: disk}
				done := l.live(all)
				require.Less(t, done, len(all))
				where += ", in the step " + all[done].name
				if l.s != nil {
					_ = l.s.Close()
				}
				require.NoError(t, disk.Restart(), where)

				require.NoError(t, l.open(), where)
				l.requireState(states, done, all[done], where)
				got := l.state()
				require.NoError(t, l.open(), where)
				require.Equal(t, got, l.state(), "%s: opened once more", where)
				for _, s := range all[max(done, 1):] {
					require.NoError(t, s.do(l), where)
				}
				require.Equal(t, end, l.state(), where)
				require.NoError(t, l.s.Close())
				left, err := filepath.Glob(filepath.Join(l.dir, "a", "data", "*.new"))
				require.NoError(t, err)
				require.Empty(t, left, where)
			}
		})
	}
}

// requireState checks what a crash in a step has left.
func (l *life) requireState(states []string, done int, in step, where string) {
	l.t.Helper()
	got := l.state()
	if got == states[max(done, 1)] || got == states[done+1] { // the first step makes what is empty
		return
	}
	for _, between := range in.between {
		if len(got) > len(between) && got[:len(between)] == between {
			return
		}
	}
	require.Failf(l.t, "neither the state before nor the one after", "%s\nfound  %s\nbefore %s\nafter  %s", where, got, states[done], states[done+1])
}

// A Ready may have a snapshot, entries behind it, and a hard state by which these are committed. A member that dies between
// the snapshot and the entries starts again, also one that an older version has left with that hard state.
func TestCrashBetweenSnapshotAndEntries(t *testing.T) {
	dir := t.TempDir()
	s := behind(t, dir)
	path, meta := saveSnapshot(t, ahead(t))
	require.NoError(t, s.InstallSnapshot(path, meta, hardState(5, 2, 12))) // and not Log.Save of entries 11 and 12
	require.EqualValues(t, 10, storage.SavedCommit(s))
	for _, term := range []uint64{5, 6} {
		s = reopen(t, s, dir)
		hs, _, err := s.Raft().InitialState()
		require.NoError(t, err)
		require.Equal(t, [3]uint64{term, 2, 10}, [3]uint64{hs.GetTerm(), hs.GetVote(), hs.GetCommit()})
		_, err = raft.NewRawNode(&raft.Config{ID: 1, ElectionTick: 10, HeartbeatTick: 1, MaxInflightMsgs: 1, Storage: s.Raft()})
		require.NoError(t, err)
		require.NoError(t, s.Log.Save(hardState(term+1, 2, 12), nil)) // for the next turn: an older version
	}
}
