package docs_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/bubble"
)

var quietLogger = &raft.DefaultLogger{Logger: log.New(io.Discard, "", 0)}

// logf is the log of the guide's member.
func logf(string, ...any) {}

// acknowledged is what other members and clients rely on: a member that forgets it breaks raft.
type acknowledged struct {
	term, vote uint64
	entries    map[uint64]uint64 // index to term
	index      uint64            // of the state
}

func (a *acknowledged) saved(rd raft.Ready) {
	if i := rd.Snapshot.GetMetadata().GetIndex(); i > 0 {
		a.entries, a.index = map[uint64]uint64{}, i
	}
	for _, e := range rd.Entries {
		a.entries[e.GetIndex()] = e.GetTerm()
	}
	if !raft.IsEmptyHardState(rd.HardState) {
		a.term, a.vote = rd.GetTerm(), rd.GetVote()
	}
}

func stateAt(index, term uint64) *raftpb.Snapshot {
	return &raftpb.Snapshot{Data: fmt.Append(nil, "state ", index), Metadata: &raftpb.SnapshotMetadata{
		Index: &index, Term: &term, ConfState: &raftpb.ConfState{Voters: []uint64{1, 2, 3}},
	}}
}

// readyWith is a Ready with new entries, if any, and a vote in a term.
func readyWith(term, vote, commit uint64, from, to uint64) raft.Ready {
	rd := raft.Ready{HardState: &raftpb.HardState{Term: &term, Vote: &vote, Commit: &commit}, MustSync: true}
	for i := from; i <= to; i++ {
		rd.Entries = append(rd.Entries, &raftpb.Entry{Index: new(i), Term: &term, Data: []byte("entry")})
	}
	return rd
}

// script is what happens to a member's store: entries, two compactions, entries that replace others, a snapshot that is received
// together with entries behind it, and another compaction.
func script(s *store, a *acknowledged) error {
	received := readyWith(4, 1, 32, 31, 33)
	received.Snapshot = stateAt(30, 3)
	for _, step := range []any{
		readyWith(1, 2, 1, 2, 9), stateAt(6, 1), readyWith(2, 3, 9, 10, 14), stateAt(12, 2),
		readyWith(3, 0, 12, 13, 15), received, readyWith(4, 1, 33, 34, 36), stateAt(34, 4), readyWith(5, 2, 36, 1, 0),
	} {
		var err error
		switch step := step.(type) {
		case raft.Ready:
			if err = s.save(step); err == nil {
				a.saved(step)
			}
		case *raftpb.Snapshot:
			index := step.GetMetadata().GetIndex()
			if err = s.compact(step, index-2); err == nil {
				a.index = index
			} else if errors.Is(err, errUnchanged) {
				err = nil // the member goes on
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// TestCrashBetweenDurableSteps: at each call to the disk the member crashes, or the call fails. After the restart the member has
// what it acknowledged, raft accepts what it finds, and the member continues.
func TestCrashBetweenDurableSteps(t *testing.T) {
	from, to := scriptCalls(t)
	for loss := range losses {
		for _, fails := range []error{errCrash, errFails} {
			for at := from; at <= to; at++ {
				t.Run(fmt.Sprintf("%s at %d, %v", loss, at, fails), func(t *testing.T) {
					d, a := crashAt(t, at, fails)
					checkRestart(t, d.after(loss), a)
				})
			}
		}
	}
}

// TestCrashWhileRestarting: the process was killed, and at each call of the restart the machine loses power.
func TestCrashWhileRestarting(t *testing.T) {
	from, to := scriptCalls(t)
	for loss := range losses {
		for at := from; at <= to; at += bubble.Runs(1, 4) {
			for restart := 1; restart <= 5; restart++ {
				d, a := crashAt(t, at, errCrash)
				d = d.after(killed)
				d.failAt, d.fails = restart, errCrash
				_, err := openStore(d)
				require.ErrorIs(t, err, errCrash)
				checkRestart(t, d.after(loss), a)
			}
		}
	}
}

// scriptCalls returns the first and the last call to the disk of the script, counted from the founding of the member.
func scriptCalls(t *testing.T) (from, to int) {
	t.Helper()
	d := newCrashDisk()
	require.NoError(t, found(d, 1, 2, 3))
	from = d.calls + 1
	s, err := openStore(d)
	require.NoError(t, err)
	require.NoError(t, script(s, &acknowledged{entries: map[uint64]uint64{}}))
	require.Greater(t, d.calls, 50)
	return from, d.calls
}

// crashAt runs the script until one of the calls fails.
func crashAt(t *testing.T, at int, fails error) (*crashDisk, *acknowledged) {
	t.Helper()
	d, a := newCrashDisk(), &acknowledged{entries: map[uint64]uint64{}, term: 1, index: 1}
	require.NoError(t, found(d, 1, 2, 3))
	d.failAt, d.fails = at, fails
	s, err := openStore(d)
	if err == nil {
		err = script(s, a)
	}
	if fails == errCrash { //nolint:errorlint // one of two
		require.ErrorIs(t, err, errCrash)
	}
	return d, a
}

// checkRestart starts a member twice from a disk, with a loss of power between that nothing may depend on.
func checkRestart(t *testing.T, d *crashDisk, a *acknowledged) {
	t.Helper()
	for range 2 {
		s, err := openStore(d)
		require.NoError(t, err)
		state := s.state.GetMetadata()
		require.GreaterOrEqual(t, state.GetIndex(), a.index)
		if state.GetIndex() > 1 {
			require.Equal(t, fmt.Sprint("state ", state.GetIndex()), string(s.state.GetData()))
		}
		require.GreaterOrEqual(t, s.hard.GetTerm(), a.term)
		if s.hard.GetTerm() == a.term && a.vote != 0 {
			require.Equal(t, a.vote, s.hard.GetVote())
		}
		for index, term := range a.entries {
			if index > state.GetIndex() {
				has, err := s.memory.Term(index)
				require.NoError(t, err, "entry %d is lost", index)
				require.GreaterOrEqual(t, has, term, "entry %d", index)
			}
		}
		node := raft.RestartNode(&raft.Config{
			ID: 1, Storage: s.memory, Applied: state.GetIndex(), ElectionTick: 10, HeartbeatTick: 1, MaxSizePerMsg: 1 << 20, MaxInflightMsgs: 256,
			Logger: quietLogger,
		})
		require.Len(t, node.Status().Config.Voters.IDs(), 3)
		node.Stop()
		snapshot, err := s.memory.Snapshot()
		require.NoError(t, err)
		require.Equal(t, state.GetIndex(), snapshot.GetMetadata().GetIndex())
		require.Equal(t, s.state.GetData(), snapshot.GetData())

		last, err := s.memory.LastIndex() // the member continues
		require.NoError(t, err)
		rd := readyWith(s.hard.GetTerm()+1, 2, last, last+1, last+3)
		require.NoError(t, s.save(rd))
		a.saved(rd)
		require.NoError(t, s.compact(stateAt(last+2, rd.GetTerm()), last))
		a.index = last + 2
		first, err := s.memory.FirstIndex()
		require.NoError(t, err)
		require.Equal(t, last+1, first)
		d = d.after("power is lost, and all")
	}
}

// TestStoreOnTheSystemsDisk does the same on files, without crashes, and looks at their size: the log does not only grow.
func TestStoreOnTheSystemsDisk(t *testing.T) {
	d, a := osDisk{t.TempDir()}, acknowledged{entries: map[uint64]uint64{}}
	_, err := openStore(d)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, found(d, 1, 2, 3))
	s, err := openStore(d)
	require.NoError(t, err)
	require.NoError(t, script(s, &a))
	size := func() int {
		data, err := d.Read(logFile)
		require.NoError(t, err)
		return len(data)
	}
	var before int
	for range 10 {
		last, err := s.memory.LastIndex()
		require.NoError(t, err)
		require.NoError(t, s.save(readyWith(6, 2, last, last+1, last+100)))
		before = size()
		require.NoError(t, s.compact(stateAt(last+100, 6), last+90))
	}
	require.Less(t, 5*size(), before)
	s, err = openStore(d)
	require.NoError(t, err)
	require.EqualValues(t, 1036, s.state.GetMetadata().GetIndex())
	first, err := s.memory.FirstIndex()
	require.NoError(t, err)
	require.EqualValues(t, 1027, first)
}

// TestDamagedLogIsRefused: a member without its log, or with one that is damaged before its end, does not start.
func TestDamagedLogIsRefused(t *testing.T) {
	d := newCrashDisk()
	require.NoError(t, found(d, 1))
	s, err := openStore(d)
	require.NoError(t, err)
	require.NoError(t, s.save(readyWith(1, 2, 1, 2, 3)))
	before, err := d.Read(logFile)
	require.NoError(t, err)
	require.NoError(t, s.save(readyWith(2, 3, 1, 4, 4)))
	whole, err := d.Read(logFile)
	require.NoError(t, err)
	for at := range whole {
		damaged := append([]byte{}, whole...)
		damaged[at] ^= 1
		require.NoError(t, d.Write(logFile, damaged))
		_, err := openStore(d)
		if at < len(before) {
			require.ErrorContains(t, err, "the log is corrupt", "byte %d", at)
		} else {
			require.NoError(t, err, "byte %d: in the last record, this cannot be told from a crash", at)
		}
	}
	delete(d.names, logFile)
	_, err = openStore(d)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// TestCompactingWithoutSnapshotPanics: raft has nothing to send to a follower that needs the entries.
func TestCompactingWithoutSnapshotPanics(t *testing.T) {
	for _, create := range []bool{true, false} {
		memory := raft.NewMemoryStorage()
		conf := &raftpb.ConfState{Voters: []uint64{1}, Learners: []uint64{2}}
		require.NoError(t, memory.ApplySnapshot(&raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{ConfState: conf}})) // as after StartNode
		node, err := raft.NewRawNode(&raft.Config{
			ID: 1, Storage: memory, ElectionTick: 10, HeartbeatTick: 1, MaxSizePerMsg: 1 << 20, MaxInflightMsgs: 256, Logger: quietLogger,
		})
		require.NoError(t, err)
		require.NoError(t, node.Campaign())
		for node.HasReady() {
			rd := node.Ready()
			require.NoError(t, memory.Append(rd.Entries))
			node.Advance(rd)
		}
		if create {
			_, err := memory.CreateSnapshot(1, nil, nil)
			require.NoError(t, err)
		}
		require.NoError(t, memory.Compact(1))
		answer := func() {
			err = node.Step(&raftpb.Message{Type: raftpb.MsgHeartbeatResp.Enum(), From: new(uint64(2)), To: new(uint64(1)), Term: new(uint64(1))})
		}
		if !create {
			require.PanicsWithValue(t, "need non-empty snapshot", answer)
			continue
		}
		require.NotPanics(t, answer)
		require.NoError(t, err)
		require.True(t, node.HasReady())
		require.Equal(t, raftpb.MsgSnap, node.Ready().Messages[0].GetType())
	}
}
