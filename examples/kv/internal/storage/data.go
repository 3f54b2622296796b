package storage

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

var (
	bucketKV = []byte("kv")

	keyPosition   = []byte("applied")    // Position of the newest entry that the file reflects
	keyConfState  = []byte("conf-state") // raftpb.ConfState at that entry
	keyMembership = []byte("membership") // JSON
)

// defaultMmapBytes is large because a write that outgrows the mapping waits until
// all transactions that read have ended, and bbolt has mapped the file anew.
const defaultMmapBytes = 1 << 30

// Data is the applied state: keys and values, who the members are, and which
// entry of the log that is the state after.
type Data struct {
	disk      Disk
	path      string
	mmapBytes int

	mu    sync.RWMutex // held for writing only to swap the file or the state
	db    *bolt.DB
	state state

	retired sync.WaitGroup // files that were replaced and still have readers
}

// state is what the file says about itself, kept in memory too.
type state struct {
	position   Position
	confState  *raftpb.ConfState
	membership Membership
}

func openData(disk Disk, path string, mmapBytes int) (*Data, error) {
	db, err := openDB(disk, path, bolt.Options{InitialMmapSize: mmapBytes})
	if err != nil {
		return nil, err
	}
	d := &Data{disk: disk, path: path, mmapBytes: mmapBytes, db: db}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{bucketMeta, bucketKV} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		d.state, err = readState(tx)
		return err
	})
	if err != nil {
		_ = db.Close()
		return nil, err
	}
	return d, nil
}

func readState(tx *bolt.Tx) (state, error) {
	meta := tx.Bucket(bucketMeta)
	if meta == nil || tx.Bucket(bucketKV) == nil {
		return state{}, errors.New("not a data file")
	}
	s := state{confState: &raftpb.ConfState{}}
	var err error
	if s.position, err = decodePosition(meta.Get(keyPosition)); err != nil {
		return state{}, err
	}
	if err := proto.Unmarshal(meta.Get(keyConfState), s.confState); err != nil {
		return state{}, fmt.Errorf("conf state: %w", err)
	}
	if b := meta.Get(keyMembership); b != nil {
		if err := json.Unmarshal(b, &s.membership); err != nil {
			return state{}, fmt.Errorf("membership: %w", err)
		}
	}
	return s, nil
}

// Position is the newest entry that the data reflects.
func (d *Data) Position() Position { return d.snapshotState().position }

// ConfState is raft's configuration at Position. The caller must not change it.
func (d *Data) ConfState() *raftpb.ConfState { return d.snapshotState().confState }

// Membership is who the members are at Position.
func (d *Data) Membership() Membership { return d.snapshotState().membership }

func (d *Data) snapshotState() state {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.state
}

func (d *Data) metadata() *raftpb.SnapshotMetadata { return d.snapshotState().metadata() }

func (s state) metadata() *raftpb.SnapshotMetadata {
	return &raftpb.SnapshotMetadata{
		Index:     new(s.position.Index),
		Term:      new(s.position.Term),
		ConfState: s.confState,
	}
}

// Get returns a copy of the value of key; ok says whether there is one.
func (d *Data) Get(key []byte) (value []byte, ok bool, err error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	err = d.db.View(func(tx *bolt.Tx) error {
		if v := tx.Bucket(bucketKV).Get(key); v != nil {
			value, ok = bytes.Clone(v), true
		}
		return nil
	})
	return value, ok, err
}

// Size is the size of the file, in bytes, free pages included.
func (d *Data) Size() int64 {
	d.mu.RLock()
	defer d.mu.RUnlock()
	info, err := os.Stat(d.path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// Begin starts a batch of changes. There is one at a time; it must be ended
// with Commit or Rollback, before any other change.
func (d *Data) Begin() (*Batch, error) {
	tx, err := d.db.Begin(true)
	if err != nil {
		return nil, err
	}
	return &Batch{d: d, tx: tx, kv: tx.Bucket(bucketKV), state: d.snapshotState()}, nil
}

// Batch is a set of changes that becomes durable and visible at once.
type Batch struct {
	d     *Data
	tx    *bolt.Tx
	kv    *bolt.Bucket
	state state
}

// Get returns the value of key with the changes of the batch, or nil if there is
// none. It is valid until the next change, and must not be written to.
func (b *Batch) Get(key []byte) []byte { return b.kv.Get(key) }

// Put sets the value of key. Neither may change until the batch ends.
func (b *Batch) Put(key, value []byte) error { return b.kv.Put(key, value) }

// Delete removes key, if it is there, and says whether it was.
func (b *Batch) Delete(key []byte) (bool, error) {
	return b.kv.Get(key) != nil, b.kv.Delete(key)
}

// Membership is who the members are with the changes of the batch.
func (b *Batch) Membership() Membership { return b.state.membership }

// SetMembership changes who the members are.
func (b *Batch) SetMembership(ms Membership) { b.state.membership = ms }

// SetConfState records what raft says its configuration is.
func (b *Batch) SetConfState(cs *raftpb.ConfState) { b.state.confState = cs }

// Commit makes the batch durable as the state after the entry at p.
func (b *Batch) Commit(p Position) error {
	b.state.position = p
	if err := b.putState(); err != nil {
		return errors.Join(err, b.tx.Rollback())
	}
	if err := b.tx.Commit(); err != nil {
		return err
	}
	b.d.mu.Lock()
	b.d.state = b.state
	b.d.mu.Unlock()
	return nil
}

func (b *Batch) putState() error {
	membership, err := json.Marshal(b.state.membership)
	if err != nil {
		return err
	}
	confState, err := proto.Marshal(b.state.confState)
	if err != nil {
		return err
	}
	meta := b.tx.Bucket(bucketMeta)
	return errors.Join(
		meta.Put(keyPosition, b.state.position.encode()),
		meta.Put(keyConfState, confState),
		meta.Put(keyMembership, membership),
	)
}

// Rollback ends the batch without a change.
func (b *Batch) Rollback() error { return b.tx.Rollback() }

// replace puts the file at path, which must be the state after the entry at
// want, in the place of the current one.
func (d *Data) replace(path string, want Position) error {
	if err := checkData(d.disk, path, want); err != nil {
		return err
	}
	// It is opened where it is, and synced later: both take their time, and nobody
	// who reads waits for that.
	next, err := openData(d.disk, path, d.mmapBytes)
	if err != nil {
		return err
	}
	if err := d.swap(path, next); err != nil {
		return errors.Join(err, next.db.Close())
	}
	return errors.Join(d.disk.SyncDir(filepath.Dir(d.path)), d.disk.SyncDir(filepath.Dir(path)))
}

func (d *Data) swap(path string, next *Data) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.disk.Rename(path, d.path); err != nil {
		return err
	}
	old := d.db
	d.db, d.state = next.db, next.state
	// Close waits for readers, such as a snapshot on its way to another member.
	d.retired.Go(func() { _ = old.Close() })
	return nil
}

// checkData opens a file that came from another member before anything depends
// on it.
func checkData(disk Disk, path string, want Position) error {
	db, err := openDB(disk, path, bolt.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	defer db.Close()
	return db.View(func(tx *bolt.Tx) error {
		s, err := readState(tx)
		if err == nil && s.position != want {
			err = fmt.Errorf("%s is the state after entry %+v, not %+v", path, s.position, want)
		}
		return err
	})
}

func (d *Data) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.db.Close()
	d.retired.Wait()
	return err
}
