package sim

import (
	"io"
	"os"
	"sync/atomic"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/snap"
)

const (
	snapshotEvery = 8 // applied entries between snapshots
	keepEntries   = 2 // entries kept behind a snapshot, for members that lag a little
)

// disk is what a member has that survives its crash: raft's log and hard state, and a folder with the databases of
// snapshots that came.
type disk struct {
	*raft.MemoryStorage
	newest uint64 // index of its snapshot; Snapshot would copy all of it for that, at each Ready

	dir   string
	store *snap.Store // nil while the member does not run

	databases, resumed atomic.Int64 // that came beside their message, and that were resumed among them
}

func newDisk(dir string) *disk {
	return &disk{MemoryStorage: raft.NewMemoryStorage(), dir: dir}
}

// bootstrap makes the disk that of a member of a new cluster.
func (d *disk) bootstrap(voters []uint64) {
	d.newest = 1
	must(d.ApplySnapshot(&raftpb.Snapshot{Data: databaseOf(&machine{}, 1), Metadata: &raftpb.SnapshotMetadata{
		Index: new(uint64(1)), Term: new(uint64(1)), ConfState: &raftpb.ConfState{Voters: voters},
	}}))
}

// open opens the folder of databases. What an earlier life has not installed is asked for again, and not claimed.
func (d *disk) open() {
	store, err := snap.Open(d.dir)
	must(err)
	must(store.RemoveUnclaimed())
	d.store = store
}

func (d *disk) close() {
	must(d.store.Close())
	d.store = nil
}

// save makes durable what raft has decided. A snapshot brings its database, or finds it saved.
func (d *disk) save(hs *raftpb.HardState, entries []*raftpb.Entry, arrived *raftpb.Snapshot) (database []byte) {
	if !raft.IsEmptySnap(arrived) {
		index := arrived.GetMetadata().GetIndex()
		if database = arrived.GetData(); database == nil {
			path, err := d.store.DBFilePath(index)
			must(err)
			database, err = os.ReadFile(path)
			must(err)
		}
		s := proto.CloneOf(arrived)
		s.Data = database
		must(d.ApplySnapshot(s))
		d.newest = index
		must(d.store.RemoveBefore(index + 1))
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

// snapshotter returns what takes the databases of a life: one that resumes, or one that cannot, as a stock member.
func (d *disk) snapshotter(resumes bool) rafthttp.Snapshotter {
	s := counting{d.store, d}
	if resumes {
		return s
	}
	return struct{ rafthttp.Snapshotter }{s}
}

// counting is a store that counts.
type counting struct {
	*snap.Store
	d *disk
}

// SaveDBFrom implements rafthttp.Snapshotter.
func (c counting) SaveDBFrom(r io.Reader, index uint64) (int64, error) {
	n, err := c.Store.SaveDBFrom(r, index)
	if err == nil {
		c.d.databases.Add(1)
	}
	return n, err
}

// ResumeDBFrom implements rafthttp.ResumingSnapshotter.
func (c counting) ResumeDBFrom(r io.Reader, t snap.Transfer, offset int64, sum func() (uint32, error)) (int64, error) {
	n, err := c.Store.ResumeDBFrom(r, t, offset, sum)
	if err == nil {
		c.d.databases.Add(1)
		if offset > 0 {
			c.d.resumed.Add(1)
		}
	}
	return n, err
}

// must is for what can fail only if the simulation itself is wrong.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
