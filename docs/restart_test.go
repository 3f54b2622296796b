package docs_test

import (
	"errors"
	"io"
	"log"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// openLog returns the log for raft: the entries from the disk, which follow begin, and the state, which may be newer. If fresh, the
// log on the disk must be replaced by an empty one after the state before raft starts.
func openLog(state *raftpb.Snapshot, begin *raftpb.SnapshotMetadata, entries []*raftpb.Entry, hs *raftpb.HardState) (memory *raft.MemoryStorage, fresh bool, err error) {
	at := state.GetMetadata()
	if at.GetIndex() < begin.GetIndex() {
		return nil, false, errors.New("the log begins after the state: they do not belong together")
	}
	memory = raft.NewMemoryStorage()
	switch begin.GetIndex() {
	case 0: // the first start, or a log that was never compacted
	case at.GetIndex():
		err = memory.ApplySnapshot(state)
	default:
		err = memory.ApplySnapshot(&raftpb.Snapshot{Metadata: begin})
	}
	err = errors.Join(err, memory.Append(entries))
	term, unknown := memory.Term(at.GetIndex())
	switch {
	case err != nil:
	case unknown != nil || term != at.GetTerm(): // a crash between installing a snapshot and replacing the log
		fresh, memory = true, raft.NewMemoryStorage()
		err = memory.ApplySnapshot(state)
	case at.GetIndex() > begin.GetIndex(): // entries before the state are kept for followers; those after it were acknowledged
		_, err = memory.CreateSnapshot(at.GetIndex(), at.GetConfState(), state.GetData())
	}
	hs.Commit = new(max(hs.GetCommit(), at.GetIndex()))
	return memory, fresh, errors.Join(err, memory.SetHardState(hs))
}

func TestOpenLog(t *testing.T) {
	at := func(index, term uint64) *raftpb.SnapshotMetadata {
		return &raftpb.SnapshotMetadata{Index: new(index), Term: new(term), ConfState: &raftpb.ConfState{Voters: []uint64{1, 2, 3}}}
	}
	var entries []*raftpb.Entry // 11 to 20 of term 2
	for i := uint64(11); i <= 20; i++ {
		entries = append(entries, &raftpb.Entry{Index: new(i), Term: new(uint64(2))})
	}
	for _, tt := range []struct {
		name                string
		state               *raftpb.SnapshotMetadata
		commit              uint64 // as saved
		fresh               bool
		first, last, raised uint64
	}{
		{"the state is where the log begins", at(10, 1), 15, false, 11, 20, 15},
		{"the state is older than the commit index", at(12, 2), 15, false, 11, 20, 15},
		{"the state is newer than the commit index", at(17, 2), 15, false, 11, 20, 17},
		{"the state is the end of the log", at(20, 2), 20, false, 11, 20, 20},
		{"the state is behind the log", at(30, 3), 15, true, 31, 30, 30},
		{"the log has another entry there", at(17, 3), 15, true, 18, 17, 17},
	} {
		t.Run(tt.name, func(t *testing.T) {
			hs := &raftpb.HardState{Term: new(uint64(2)), Vote: new(uint64(3)), Commit: new(tt.commit)}
			memory, fresh, err := openLog(&raftpb.Snapshot{Metadata: tt.state, Data: []byte("state")}, at(10, 1), entries, hs)
			require.NoError(t, err)
			require.Equal(t, tt.fresh, fresh)
			first, err := memory.FirstIndex()
			require.NoError(t, err)
			last, err := memory.LastIndex()
			require.NoError(t, err)
			require.Equal(t, []uint64{tt.first, tt.last, tt.raised}, []uint64{first, last, hs.GetCommit()})
			node := raft.RestartNode(&raft.Config{ // panics if something does not fit
				ID: 1, Storage: memory, Applied: tt.state.GetIndex(), ElectionTick: 10, HeartbeatTick: 1, MaxSizePerMsg: 1 << 20, MaxInflightMsgs: 256,
				Logger: &raft.DefaultLogger{Logger: log.New(io.Discard, "", 0)},
			})
			defer node.Stop()
			st := node.Status()
			require.Len(t, st.Config.Voters.IDs(), 3)
			require.Equal(t, tt.state.GetIndex(), st.Applied)
			require.Equal(t, tt.raised, st.GetCommit())
			snapshot, err := memory.Snapshot() // what a follower is sent that is too far behind
			require.NoError(t, err)
			require.Equal(t, tt.state.GetIndex(), snapshot.GetMetadata().GetIndex())
			require.Equal(t, "state", string(snapshot.GetData()))
		})
	}
	_, _, err := openLog(&raftpb.Snapshot{Metadata: at(9, 1)}, at(10, 1), entries, &raftpb.HardState{})
	require.ErrorContains(t, err, "do not belong together")
	_, _, err = openLog(nil, nil, nil, &raftpb.HardState{}) // the first start
	require.NoError(t, err)
}
