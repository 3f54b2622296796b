package sim

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/memnet/rafttest"
)

// slowSave is what a save of the member of newLed takes.
const slowSave = 300 * time.Millisecond

// led is member 1 of three. The others do not run: the test sends what leader 2 would.
type led struct {
	t *testing.T
	s *simulation
	*member
}

// newLed runs one whose raft is behind what wrap returns.
func newLed(t *testing.T, l loop, wrap func(raft.Node, *disk) raft.Node) led {
	o := options{loop: l, fsync: slowSave, resumes: true, queue: 64, places: 4, errorC: make(chan error, 1)}
	s := &simulation{
		t: t, members: map[uint64]*member{}, disks: map[uint64]*disk{1: newDisk(t.TempDir())}, options: map[uint64]options{1: o},
	}
	s.c = rafttest.New(t, rafttest.Config{Tune: s.tune})
	s.disks[1].bootstrap([]uint64{1, 2, 3})
	s.disks[1].open()
	m := s.newMember(1, s.disks[1], o)
	m.Node = wrap(m.Node, m.disk)
	go m.run()
	t.Cleanup(func() {
		s.end(1, (*rafttest.Member).Stop)
		require.Empty(t, s.wrong)
	})
	s.members[1] = m
	return led{t, s, m}
}

// step has the member take a message of the leader, in term 2.
func (l led) step(m *raftpb.Message) error {
	m.From, m.To, m.Term = new(uint64(2)), new(uint64(1)), new(uint64(2))
	return l.Process(l.t.Context(), m)
}

// append has it take committed entries.
func (l led) append(entries ...*raftpb.Entry) {
	before, last := entries[0].GetIndex()-1, entries[len(entries)-1].GetIndex()
	m := &raftpb.Message{Type: raftpb.MsgApp.Enum(), Index: new(before), LogTerm: new(uint64(2)), Entries: entries, Commit: new(last)}
	if before == 1 { // that of the disk
		m.LogTerm = new(uint64(1))
	}
	require.NoError(l.t, l.step(m))
}

func entry(index uint64) *raftpb.Entry { return &raftpb.Entry{Index: new(index), Term: new(uint64(2))} }

func adds(t *testing.T, index, id uint64) *raftpb.Entry {
	e := entry(index)
	data, err := proto.Marshal(&raftpb.ConfChange{Type: raftpb.ConfChangeAddNode.Enum(), NodeId: new(id)})
	require.NoError(t, err)
	e.Type, e.Data = raftpb.EntryConfChange.Enum(), data
	return e
}

// applyHeld is a raft that hears late that entries are applied.
type applyHeld struct{ raft.Node }

func (n applyHeld) Step(ctx context.Context, m *raftpb.Message) error {
	if m.GetType() == raftpb.MsgStorageApplyResp {
		time.Sleep(3 * slowSave / 2)
	}
	return n.Node.Step(ctx, m)
}

// TestOldChangeAfterASnapshot: a change of the members that is older than a snapshot, and is still to be applied when that comes,
// does not change those that the snapshot has brought (etcd#11510).
func TestOldChangeAfterASnapshot(t *testing.T) {
	for l := range loops {
		t.Run(l.String(), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				m := newLed(t, l, func(n raft.Node, _ *disk) raft.Node { return applyHeld{n} })
				m.append(adds(t, 2, 4))
				time.Sleep(slowSave + time.Millisecond)
				m.append(adds(t, 3, 5))
				time.Sleep(time.Millisecond) // it is being saved, and handed out already where a loop is plain
				if l == loopAsync {
					time.Sleep(slowSave)
				}
				snapshot := &raftpb.Snapshot{Data: databaseOf(&machine{}, 20), Metadata: &raftpb.SnapshotMetadata{
					Index: new(uint64(20)), Term: new(uint64(2)), ConfState: &raftpb.ConfState{Voters: []uint64{1, 2, 3}},
				}}
				require.NoError(t, m.step(&raftpb.Message{Type: raftpb.MsgSnap.Enum(), Snapshot: snapshot}))
				time.Sleep(20 * slowSave)
				synctest.Wait()
				applied, _, voters, _ := m.view()
				require.EqualValues(t, 20, applied)
				require.Equal(t, []uint64{1, 2, 3}, voters)
				require.Equal(t, voters, m.Status().Config.Voters[0].Slice())
			})
		})
	}
}

// failing is a test that is to fail.
type failing struct {
	testing.TB
	why string
}

func (f *failing) Helper() {}
func (f *failing) Fatalf(format string, args ...any) {
	f.why = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// TestMembersOfRaft: it is noticed that raft has other members than the state.
func TestMembersOfRaft(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		m := newLed(t, loopPlain, func(n raft.Node, _ *disk) raft.Node { return n })
		m.s.checkMembers()
		m.ApplyConfChange(&raftpb.ConfChange{Type: raftpb.ConfChangeAddNode.Enum(), NodeId: new(uint64(4))})
		f, done := &failing{TB: t}, make(chan struct{})
		m.s.t = f
		go func() {
			defer close(done)
			m.s.checkMembers()
		}()
		<-done
		require.Contains(t, f.why, "raft of member 1 knows the members [1 2 3 4], its state has [1 2 3]")
	})
}

// compactionSeen is a raft that looks at the log when it hears that entries are applied.
type compactionSeen struct {
	raft.Node
	look func(applied uint64)
}

func (n compactionSeen) Advance() {
	n.look(n.Status().Applied)
	n.Node.Advance()
}

func (n compactionSeen) Step(ctx context.Context, m *raftpb.Message) error {
	if m.GetType() == raftpb.MsgStorageApplyResp {
		n.look(n.Status().Applied)
	}
	return n.Node.Step(ctx, m)
}

// TestCompactionWaitsForRaft: until raft has heard that entries are applied, it may read them again, where it campaigns, and
// panics if they are gone.
func TestCompactionWaitsForRaft(t *testing.T) {
	for l := range loops {
		t.Run(l.String(), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				looked := 0
				m := newLed(t, l, func(n raft.Node, d *disk) raft.Node {
					return compactionSeen{n, func(applied uint64) {
						looked++
						if first, err := d.FirstIndex(); err != nil || first > applied+1 {
							t.Errorf("the log begins with entry %d (%v), and raft has heard of %d", first, err, applied)
						}
					}}
				})
				var entries []*raftpb.Entry
				for i := range uint64(2 * snapshotEvery) {
					entries = append(entries, entry(2+i))
				}
				m.append(entries...)
				time.Sleep(20 * slowSave)
				synctest.Wait()
				require.Positive(t, looked)
				first, err := m.disk.FirstIndex()
				require.NoError(t, err)
				require.EqualValues(t, 2*snapshotEvery-keepEntries+2, first, "it is compacted")
			})
		})
	}
}
