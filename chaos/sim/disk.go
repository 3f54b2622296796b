package sim

import (
	"io"
	"maps"
	"slices"
	"sync"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

const (
	snapshotEvery = 40 // applied entries between snapshots
	keepDatabases = 4
	keepEntries   = 10 // entries kept behind a snapshot, for members that lag a little
)

// disk is what a member has that survives its crash: raft's log and hard state, and databases of snapshots.
type disk struct {
	*raft.MemoryStorage
	newest uint64 // index of its snapshot; Snapshot would copy all of it for that, at each Ready

	mu        sync.Mutex
	databases map[uint64][]byte // by index of their snapshot
}

func newDisk() *disk {
	return &disk{MemoryStorage: raft.NewMemoryStorage(), databases: make(map[uint64][]byte)}
}

// bootstrap makes the disk that of a member of a new cluster.
func (d *disk) bootstrap(voters []uint64) {
	empty := (&machine{}).marshal()
	d.databases[1], d.newest = empty, 1
	must(d.ApplySnapshot(&raftpb.Snapshot{Data: empty, Metadata: &raftpb.SnapshotMetadata{
		Index: new(uint64(1)), Term: new(uint64(1)), ConfState: &raftpb.ConfState{Voters: voters},
	}}))
}

// save makes durable what raft has decided. A snapshot brings its database, or finds it saved.
func (d *disk) save(hs *raftpb.HardState, entries []*raftpb.Entry, arrived *raftpb.Snapshot) (database []byte) {
	if !raft.IsEmptySnap(arrived) {
		if database = arrived.GetData(); database == nil {
			d.mu.Lock()
			database = d.databases[arrived.GetMetadata().GetIndex()]
			d.mu.Unlock()
		}
		s := proto.CloneOf(arrived)
		s.Data = database
		must(d.ApplySnapshot(s))
		d.newest = s.GetMetadata().GetIndex()
	}
	must(d.Append(entries))
	if !raft.IsEmptyHardState(hs) {
		must(d.SetHardState(hs))
	}
	return database
}

// commitTo raises the commit index to what the state has applied: with AsyncStorageWrites it may have been saved before.
func (d *disk) commitTo(applied uint64) {
	hs, _, err := d.InitialState()
	must(err)
	if hs.GetCommit() < applied {
		must(d.SetHardState(&raftpb.HardState{Term: new(hs.GetTerm()), Vote: new(hs.GetVote()), Commit: new(applied)}))
	}
}

// snapshot saves the state at an index, and forgets the log behind it.
func (d *disk) snapshot(index uint64, cs *raftpb.ConfState, database []byte) {
	_, err := d.CreateSnapshot(index, cs, database)
	must(err)
	d.newest = index
	if first, err := d.FirstIndex(); err == nil && index > keepEntries && index-keepEntries > first {
		must(d.Compact(index - keepEntries))
	}
}

// SaveDBFrom implements rafthttp.Snapshotter.
func (d *disk) SaveDBFrom(r io.Reader, index uint64) (int64, error) {
	database, err := io.ReadAll(r)
	if err != nil {
		return 0, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.databases[index] = database
	if len(d.databases) > keepDatabases {
		delete(d.databases, slices.Min(slices.Collect(maps.Keys(d.databases))))
	}
	return int64(len(database)), nil
}

// must is for what can fail only if the simulation itself is wrong.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
