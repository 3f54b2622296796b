package server

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/crashdisk"
	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/storage"
)

// stepped is member 3 of a cluster, of which the test is all the others. It has applied the entries up to 3, which made 1, 2
// and 3 its members.
type stepped struct {
	t *testing.T
	*Server
}

func memberURL(id uint64) string { return fmt.Sprintf("http://127.0.0.1:%d", id) } // nobody listens there

// newStepped returns one whose Ready loop does not run yet.
func newStepped(t *testing.T, async bool, disk storage.Disk) stepped {
	cfg := Config{
		ID: 3, DataDir: t.TempDir(), PeerURL: memberURL(3), ClientURL: "http://127.0.0.1:9",
		Tick: time.Hour, AsyncStorageWrites: async,
	}
	require.NoError(t, cfg.fill())
	s := newServer(cfg)
	s.clusterID = 1
	t.Cleanup(s.close)
	var err error
	s.snapshots, err = openSnapshots(cfg.DataDir)
	require.NoError(t, err)
	s.storage, err = storage.Open(cfg.DataDir, storage.Options{MmapBytes: 1 << 16, Disk: disk})
	require.NoError(t, err)
	known := commitMembers(t, s.storage, 3, 1, 1, 2, 3)
	require.NoError(t, s.storage.Log.Save(&raftpb.HardState{Term: new(uint64(1)), Commit: new(uint64(3))}, emptyEntries(1, 3, 1)))
	s.startNode(nil)
	s.transport, err = s.newTransport()
	require.NoError(t, err)
	require.NoError(t, s.startTransport(known))
	return stepped{t, s}
}

func startStepped(t *testing.T, async bool, disk storage.Disk) stepped {
	s := newStepped(t, async, disk)
	s.startReady()
	return s
}

// emptyEntries returns entries from index lo to index hi, without data.
func emptyEntries(lo, hi, term uint64) (entries []*raftpb.Entry) {
	for i := lo; i <= hi; i++ {
		entries = append(entries, &raftpb.Entry{Index: new(i), Term: new(term)})
	}
	return entries
}

// commitMembers makes these the voters in a storage, as the state after an entry.
func commitMembers(t *testing.T, st *storage.Storage, index, term uint64, voters ...uint64) (ms storage.Membership) {
	for _, id := range voters {
		ms = ms.With(storage.Member{ID: id, PeerURL: memberURL(id)})
	}
	b, err := st.Data.Begin()
	require.NoError(t, err)
	b.SetMembership(ms)
	b.SetConfState(&raftpb.ConfState{Voters: voters})
	require.NoError(t, b.Commit(storage.Position{Index: index, Term: term}))
	return ms
}

// addLearner is the entry of term 2 that adds one.
func addLearner(t *testing.T, index, id uint64) *raftpb.Entry {
	about := fmt.Sprintf(`{"member":{"id":%d,"peer_url":%q}}`, id, memberURL(id))
	data, err := proto.Marshal(&raftpb.ConfChange{Type: raftpb.ConfChangeAddLearnerNode.Enum(), NodeId: new(id), Context: []byte(about)})
	require.NoError(t, err)
	return &raftpb.Entry{Index: new(index), Term: new(uint64(2)), Type: raftpb.EntryConfChange.Enum(), Data: data}
}

// message is one of leader 1 in term 2.
func message(typ raftpb.MessageType) *raftpb.Message {
	return &raftpb.Message{Type: typ.Enum(), From: new(uint64(1)), To: new(uint64(3)), Term: new(uint64(2))}
}

// appended is what the leader sends with entries, all of which are committed.
func appended(entries ...*raftpb.Entry) *raftpb.Message {
	before := entries[0].GetIndex() - 1
	m := message(raftpb.MsgApp)
	m.Index, m.LogTerm, m.Entries = new(before), new(uint64(2)), entries
	if before == 3 {
		m.LogTerm = new(uint64(1))
	}
	m.Commit = new(entries[len(entries)-1].GetIndex())
	return m
}

// append has the member save entries.
func (s stepped) append(entries ...*raftpb.Entry) {
	m := appended(entries...)
	require.NoError(s.t, receiver{s.Server}.Process(s.t.Context(), m))
	s.await(func() bool { _, saved, _ := s.storage.Log.Extent(); return saved >= m.GetCommit() })
}

func (s stepped) await(ok func() bool) {
	s.t.Helper()
	require.Eventually(s.t, ok, 20*time.Second, time.Millisecond)
}

// snapshot is a MsgSnap of the state after entry 20, whose database has arrived. The learners vote by then.
func (s stepped) snapshot() *raftpb.Message {
	other, err := storage.Open(filepath.Join(s.t.TempDir(), "leader"), storage.Options{MmapBytes: 1 << 16})
	require.NoError(s.t, err)
	defer other.Close()
	commitMembers(s.t, other, 20, 2, 1, 2, 3, 4, 5)
	data, err := other.Data.Copy(s.t.Context(), s.t.TempDir())
	require.NoError(s.t, err)
	defer os.Remove(data.File.Name())
	defer data.File.Close()
	_, err = s.snapshots.SaveDBFrom(data.File, 20)
	require.NoError(s.t, err)
	m := message(raftpb.MsgSnap)
	m.Snapshot = &raftpb.Snapshot{Metadata: data.Metadata}
	return m
}

// appendLearners has the member save the entries that add two learners, with the state locked, so that they wait to be applied.
// What holds them up is a compaction that takes its time, say; a slow disk does the same.
func (s stepped) appendLearners() {
	s.append(addLearner(s.t, 4, 4), addLearner(s.t, 5, 5))
	if s.cfg.AsyncStorageWrites { // the apply thread is given them once they are durable, which the next entries show
		s.append(emptyEntries(6, 6, 2)...)
		s.append(emptyEntries(7, 7, 2)...)
	}
}

// step has Process take a MsgSnap, and waits until raft has that, if it may have it now.
func (s stepped) step(m *raftpb.Message) <-chan error {
	result := make(chan error, 1)
	go func() { result <- receiver{s.Server}.Process(s.t.Context(), m) }()
	want := m.GetSnapshot().GetMetadata().GetConfState().GetVoters()
	for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end) && !slices.Equal(s.voters(), want); {
		time.Sleep(time.Millisecond)
	}
	return result
}

func (s stepped) voters() []uint64 { return s.node.Status().Config.Voters[0].Slice() }

// catchUp has the member get two learners by entries, and, while these wait to be applied, a snapshot in which both vote.
func (s stepped) catchUp() {
	m := s.snapshot()
	result := func() <-chan error {
		s.state.Lock()
		defer s.state.Unlock()
		s.appendLearners()
		return s.step(m)
	}()
	require.NoError(s.t, <-result)
	s.await(func() bool { return s.storage.Data.Position().Index == 20 && s.node.Status().Applied == 20 })
}

// bothLoops runs a test with each of the two loops.
func bothLoops(t *testing.T, test func(t *testing.T, async bool)) {
	for _, async := range []bool{false, true} {
		t.Run(fmt.Sprint("async ", async), func(t *testing.T) { test(t, async) })
	}
}

// A change of the configuration that is older than a snapshot does not change the configuration that the snapshot has
// brought (etcd#11510): afterwards, raft's members are those of the data.
func TestOldChangeAfterASnapshot(t *testing.T) {
	bothLoops(t, func(t *testing.T, async bool) {
		s := startStepped(t, async, nil)
		s.catchUp()
		want := s.storage.Data.ConfState().GetVoters()
		require.Equal(t, []uint64{1, 2, 3, 4, 5}, want)
		require.Equal(t, want, s.voters())
	})
}

// Two votes of five members elect nobody: the three others may have elected somebody in the same term.
func TestElectionAfterASnapshot(t *testing.T) {
	bothLoops(t, func(t *testing.T, async bool) {
		s := startStepped(t, async, nil)
		s.catchUp()
		require.NoError(t, s.node.Step(t.Context(), message(raftpb.MsgTimeoutNow)))
		s.await(func() bool { return s.node.Status().RaftState == raft.StateCandidate })
		vote := message(raftpb.MsgVoteResp)
		vote.Term = new(uint64(3))
		require.NoError(t, s.node.Step(t.Context(), vote))
		own := message(raftpb.MsgVoteResp) // its own may have been counted before, or after; it is counted once
		own.From, own.Term = new(uint64(3)), new(uint64(3))
		require.NoError(t, s.node.Step(t.Context(), own))
		require.Equal(t, raft.StateCandidate, s.node.Status().RaftState)
	})
}

// What is durable as the state after an entry has the configuration after that entry, also while a newer snapshot waits to
// be installed: a crash before that leaves a member with it.
func TestConfStateOfEntriesBeforeASnapshot(t *testing.T) {
	s := startStepped(t, true, nil)
	m := s.snapshot()
	m.Snapshot.Metadata.ConfState = &raftpb.ConfState{Voters: []uint64{1, 3, 4, 5}} // 2 was removed
	m.Snapshot.Metadata.Index = new(uint64(21))                                     // its database is not here: it cannot be installed
	s.state.Lock()
	s.appendLearners()
	result := s.step(m)
	s.state.Unlock()
	require.NoError(t, <-result)
	<-s.life.Done() // as if it were killed when it begins to install
	s.ready.Wait()
	require.Equal(t, uint64(7), s.storage.Data.Position().Index)
	require.Equal(t, []uint64{1, 2, 3}, s.storage.Data.ConfState().GetVoters())
	require.Equal(t, []uint64{4, 5}, s.storage.Data.ConfState().GetLearners())
}

// A snapshot that waits for its turn holds up no other message, and ends with its context, or the server.
func TestSnapshotWaitsForItsTurn(t *testing.T) {
	bothLoops(t, func(t *testing.T, async bool) {
		s := startStepped(t, async, nil)
		m := s.snapshot()
		s.state.Lock()
		defer s.state.Unlock()
		s.appendLearners()
		ctx, cancel := context.WithCancelCause(t.Context())
		result := make(chan error, 1)
		go func() { result <- receiver{s.Server}.Process(ctx, m) }()
		beat := message(raftpb.MsgHeartbeat)
		beat.Term = new(uint64(4))
		require.NoError(t, receiver{s.Server}.Process(t.Context(), beat))
		require.Equal(t, uint64(4), s.node.Status().GetTerm())
		cancel(nil)
		require.ErrorIs(t, <-result, context.Canceled)

		go func() { result <- receiver{s.Server}.Process(t.Context(), m) }()
		s.end(nil)
		require.ErrorIs(t, <-result, raft.ErrStopped)
		require.Equal(t, []uint64{1, 2, 3}, s.voters())
	})
}

// Entries that do not follow what is applied end the member.
func TestEntriesFollowWhatIsApplied(t *testing.T) {
	s := newStepped(t, false, nil)
	require.NoError(t, s.apply(nil))
	require.ErrorContains(t, s.apply(emptyEntries(3, 5, 1)), "entry 3 after entry 3")
	require.ErrorContains(t, s.apply(emptyEntries(5, 5, 1)), "entry 5 after entry 3")
	require.NoError(t, s.apply(emptyEntries(4, 5, 1)))
}

// A member dies when it has installed a snapshot, and not saved yet what the same Ready has behind it. It starts again.
func TestKilledBetweenSnapshotAndEntries(t *testing.T) {
	var commits int
	disk := &crashdisk.Disk{}
	s := newStepped(t, false, disk)
	require.NoError(t, s.node.Step(t.Context(), s.snapshot()))
	require.NoError(t, s.node.Step(t.Context(), appended(emptyEntries(21, 22, 2)...)))
	rd := <-s.node.Ready()
	require.Equal(t, uint64(20), rd.Snapshot.GetMetadata().GetIndex())
	require.Len(t, rd.Entries, 2)
	require.Equal(t, uint64(22), rd.GetCommit())
	disk.Crashes = func(_ int, what string) *crashdisk.Crash {
		if what == "commit log.db" {
			commits++
		}
		if commits == 2 { // the first restarts the log behind the snapshot
			return &crashdisk.Crash{}
		}
		return nil
	}
	require.ErrorIs(t, s.handleReady(rd), crashdisk.ErrCrashed)
	s.close()
	require.NoError(t, disk.Restart())

	st, err := storage.Open(s.cfg.DataDir, s.cfg.Storage)
	require.NoError(t, err)
	defer st.Close()
	require.Equal(t, storage.Position{Index: 20, Term: 2}, st.Data.Position())
	require.NotPanics(t, func() {
		_, err := raft.NewRawNode(&raft.Config{ID: 3, ElectionTick: 10, HeartbeatTick: 1, MaxInflightMsgs: 1, Storage: st.Raft(), Applied: 20})
		require.NoError(t, err)
	})
}
