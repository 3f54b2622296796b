package storage

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

var (
	bucketEntries = []byte("entries") // index, 8 bytes big-endian -> raftpb.Entry
	bucketMeta    = []byte("meta")

	keyHardState = []byte("hard-state") // raftpb.HardState
	keyBase      = []byte("base")       // Position of the entry before the first one kept
	keyIdentity  = []byte("identity")   // JSON
)

// Log is raft's log and hard state. It is written through to disk and read
// from memory: raft reads what it has just written, over and over, and
// compaction keeps it small.
type Log struct {
	mem *raft.MemoryStorage
	db  *bolt.DB

	mu        sync.Mutex        // held while something is written; guards what follows
	hardState *raftpb.HardState // as on disk
	base      Position

	bytes atomic.Int64 // of data in the entries
}

// Identity is who the member is. It is chosen once, before the first start.
type Identity struct {
	ID        uint64 `json:"id"`
	ClusterID uint64 `json:"cluster_id"`
	Founding  uint64 `json:"founding,omitempty"` // of a founder: the number that was drawn when the cluster was founded
	Joining   uint64 `json:"joining,omitempty"`  // of a member that joins: the number that it drew. Until it was taken in, ClusterID is 0

	Removed bool `json:"removed,omitempty"` // others have said that it was: its life is over
}

func openLog(disk Disk, path string) (*Log, error) {
	db, err := openDB(disk, path, bolt.Options{})
	if err != nil {
		return nil, err
	}
	l := &Log{mem: raft.NewMemoryStorage(), db: db, hardState: &raftpb.HardState{}}
	if err := db.Update(l.load); err != nil {
		_ = db.Close()
		return nil, err
	}
	return l, nil
}

func (l *Log) load(tx *bolt.Tx) error {
	meta, err := tx.CreateBucketIfNotExists(bucketMeta)
	if err != nil {
		return err
	}
	entries, err := tx.CreateBucketIfNotExists(bucketEntries)
	if err != nil {
		return err
	}
	if err := proto.Unmarshal(meta.Get(keyHardState), l.hardState); err != nil {
		return fmt.Errorf("hard state: %w", err)
	}
	if l.base, err = decodePosition(meta.Get(keyBase)); err != nil {
		return err
	}
	if l.base.Index > 0 {
		if err := l.mem.ApplySnapshot(l.base.snapshot()); err != nil {
			return err
		}
	}
	return l.loadEntries(entries)
}

func (l *Log) loadEntries(bucket *bolt.Bucket) error {
	var ents []*raftpb.Entry
	next := l.base.Index + 1
	err := bucket.ForEach(func(_, v []byte) error {
		e := &raftpb.Entry{}
		if err := proto.Unmarshal(v, e); err != nil {
			return fmt.Errorf("entry %d: %w", next, err)
		}
		if e.GetIndex() != next {
			return fmt.Errorf("entry %d is missing (found %d)", next, e.GetIndex())
		}
		next++
		ents = append(ents, e)
		return nil
	})
	if err != nil {
		return err
	}
	l.bytes.Store(size(ents...))
	return l.mem.Append(ents)
}

// Join returns the entries to save instead of ents first, and then more. It may
// change ents, as append does.
func Join(ents, more []*raftpb.Entry) []*raftpb.Entry {
	if len(ents) == 0 || len(more) == 0 {
		return append(ents, more...)
	}
	first := ents[0].GetIndex()
	kept := max(more[0].GetIndex(), first) - first // more replaces the others
	return append(ents[:kept], more...)
}

// Save makes the hard state, if there is one, and the entries durable, and then
// visible to raft. Entries that were saved before, from the first new index on,
// are discarded. A new commit index alone is not saved: it is not worth a sync,
// the member learns it again from the leader.
func (l *Log) Save(hs *raftpb.HardState, ents []*raftpb.Entry) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(ents) == 0 && (raft.IsEmptyHardState(hs) || !raft.MustSync(hs, l.hardState, 0)) {
		return nil
	}
	replaced, err := l.replacedBy(ents)
	if err != nil {
		return err
	}
	err = l.db.Update(func(tx *bolt.Tx) error {
		if err := putHardState(tx, hs); err != nil {
			return err
		}
		return putEntries(tx.Bucket(bucketEntries), ents, replaced)
	})
	if err != nil {
		return err
	}
	if !raft.IsEmptyHardState(hs) {
		l.hardState = hs
	}
	l.bytes.Add(size(ents...) - size(replaced...))
	return l.mem.Append(ents)
}

// replacedBy returns the entries that new ones discard.
func (l *Log) replacedBy(ents []*raftpb.Entry) ([]*raftpb.Entry, error) {
	last, err := l.mem.LastIndex()
	if err != nil || len(ents) == 0 {
		return nil, err
	}
	return l.entries(ents[0].GetIndex(), last)
}

func putEntries(bucket *bolt.Bucket, ents, replaced []*raftpb.Entry) error {
	bucket.FillPercent = 1 // keys only ever grow: leave no room in the pages
	for _, e := range ents {
		v, err := proto.Marshal(e)
		if err != nil {
			return err
		}
		if err := bucket.Put(indexKey(e.GetIndex()), v); err != nil {
			return err
		}
	}
	if len(replaced) == 0 {
		return nil
	}
	return deleteRange(bucket, ents[len(ents)-1].GetIndex()+1, replaced[len(replaced)-1].GetIndex())
}

// Compact forgets the entries up to and including applied, except the last
// keepEntries of them, or fewer if these have more than keepBytes of data: a
// follower that is only a little behind is better served with entries than with
// a snapshot. It returns the number of entries forgotten. Entries that the data
// does not reflect yet must not be compacted.
func (l *Log) Compact(applied, keepEntries uint64, keepBytes int64) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	to, err := l.compactionPoint(applied, keepEntries, keepBytes)
	if err != nil || to <= l.base.Index {
		return 0, err
	}
	term, err := l.mem.Term(to)
	if err != nil {
		return 0, err
	}
	base := Position{Index: to, Term: term}
	err = l.db.Update(func(tx *bolt.Tx) error {
		if err := tx.Bucket(bucketMeta).Put(keyBase, base.encode()); err != nil {
			return err
		}
		return deleteRange(tx.Bucket(bucketEntries), l.base.Index+1, to)
	})
	if err != nil {
		return 0, err
	}
	forgotten, err := l.entries(l.base.Index+1, to)
	if err != nil {
		return 0, err
	}
	l.base = base
	l.bytes.Add(-size(forgotten...))
	return uint64(len(forgotten)), l.mem.Compact(to)
}

// compactionPoint is the newest entry to forget; 0: none. Whichever bound is
// reached first holds.
func (l *Log) compactionPoint(applied, keepEntries uint64, keepBytes int64) (uint64, error) {
	if applied <= l.base.Index {
		return 0, nil
	}
	to := applied - min(keepEntries, applied-l.base.Index)
	ents, err := l.entries(to+1, applied)
	if err != nil {
		return 0, err
	}
	for _, e := range slices.Backward(ents) {
		if keepBytes -= size(e); keepBytes < 0 {
			return e.GetIndex(), nil
		}
	}
	return to, nil
}

// entries returns those from index lo to index hi, both included.
func (l *Log) entries(lo, hi uint64) ([]*raftpb.Entry, error) {
	if lo > hi {
		return nil, nil
	}
	return l.mem.Entries(lo, hi+1, math.MaxUint64)
}

// size is what an entry counts in Extent and for Compact.
func size(ents ...*raftpb.Entry) (bytes int64) {
	for _, e := range ents {
		bytes += int64(len(e.GetData()))
	}
	return bytes
}

// reset empties the log, and lets it continue after the entry at base. Without a
// hard state, that of the log stays. Its commit index becomes that of base: what
// is behind is committed only once the log has it.
func (l *Log) reset(base Position, hs *raftpb.HardState) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if raft.IsEmptyHardState(hs) {
		hs = l.hardState
	}
	hs = &raftpb.HardState{Term: hs.Term, Vote: hs.Vote, Commit: new(base.Index)}
	err := l.db.Update(func(tx *bolt.Tx) error {
		if err := tx.DeleteBucket(bucketEntries); err != nil {
			return err
		}
		if _, err := tx.CreateBucket(bucketEntries); err != nil {
			return err
		}
		if err := putHardState(tx, hs); err != nil {
			return err
		}
		return tx.Bucket(bucketMeta).Put(keyBase, base.encode())
	})
	if err != nil {
		return err
	}
	l.base, l.hardState = base, hs
	l.bytes.Store(0)
	return l.mem.ApplySnapshot(base.snapshot())
}

// savedState is the hard state on disk. The caller must not change it.
func (l *Log) savedState() *raftpb.HardState {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.hardState
}

// Extent says which entries the log has, and how many bytes of data they have.
// With first > last it has none.
func (l *Log) Extent() (first, last uint64, bytes int64) {
	first, _ = l.mem.FirstIndex() // a MemoryStorage has no errors here
	last, _ = l.mem.LastIndex()
	return first, last, l.bytes.Load()
}

// Identity returns who the member is; ok says whether it was set.
func (l *Log) Identity() (id Identity, ok bool, err error) {
	err = l.db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketMeta).Get(keyIdentity)
		if ok = b != nil; !ok {
			return nil
		}
		return json.Unmarshal(b, &id)
	})
	return id, ok, err
}

// SetIdentity makes durable who the member is.
func (l *Log) SetIdentity(id Identity) error {
	b, err := json.Marshal(id)
	if err != nil {
		return err
	}
	return l.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(bucketMeta).Put(keyIdentity, b) })
}

func (l *Log) close() error { return l.db.Close() }

func (p Position) snapshot() *raftpb.Snapshot {
	return &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
		Index: new(p.Index), Term: new(p.Term), ConfState: &raftpb.ConfState{},
	}}
}

func putHardState(tx *bolt.Tx, hs *raftpb.HardState) error {
	if raft.IsEmptyHardState(hs) {
		return nil
	}
	b, err := proto.Marshal(hs)
	if err != nil {
		return err
	}
	return tx.Bucket(bucketMeta).Put(keyHardState, b)
}

// deleteRange deletes the entries from index lo to index hi, both included.
func deleteRange(bucket *bolt.Bucket, lo, hi uint64) error {
	for i := lo; i <= hi; i++ {
		if err := bucket.Delete(indexKey(i)); err != nil {
			return err
		}
	}
	return nil
}
