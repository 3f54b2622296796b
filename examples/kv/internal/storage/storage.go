// Package storage keeps what a raft member must not forget: its log and hard
// state in one database file (log.db), and the applied data in another
// (data.db). The data file says in the same transaction as the data which
// entry it reflects, so a restart goes on from exactly there, and a snapshot
// of it needs nothing beside the file.
//
// Every write is synced before the call returns. The directory belongs to one
// process: a server locks it before it opens a Storage. Any goroutine may read, and
// write to the log; one at a time writes to the data, and InstallSnapshot and
// Compact exclude that and each other.
package storage

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

const (
	logFile  = "log.db"
	dataFile = "data.db"

	// lockTimeout is how long an Open waits for another process that has the
	// same directory open, before it says so.
	lockTimeout = time.Second
)

// Storage is the durable state of one member.
type Storage struct {
	Log  *Log
	Data *Data
}

// Options is how a Storage is opened. The zero value is what a server needs.
type Options struct {
	// MmapBytes is the address space, not the memory, that the data file is given
	// at first. Zero means 1 GiB.
	MmapBytes int
	// Disk is for tests. Nil means that of the system.
	Disk Disk
}

// Open opens the state in dir, creating what is missing, and finishes what a
// crash interrupted.
func Open(dir string, opts Options) (*Storage, error) {
	disk := cmp.Or(opts.Disk, Disk(systemDisk{}))
	if err := makeDir(disk, dir); err != nil {
		return nil, err
	}
	if err := checkLogFile(dir); err != nil {
		return nil, err
	}
	log, err := openLog(disk, filepath.Join(dir, logFile))
	if err != nil {
		return nil, fmt.Errorf("open raft log: %w", err)
	}
	data, err := openData(disk, filepath.Join(dir, dataFile), cmp.Or(opts.MmapBytes, defaultMmapBytes))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open data: %w", err), log.close())
	}
	s := &Storage{Log: log, Data: data}
	if err := s.recover(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if err := disk.SyncDir(dir); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// checkLogFile refuses a folder that has data and no log, which is made first: the
// log was lost.
func checkLogFile(dir string) error {
	_, logErr := os.Stat(filepath.Join(dir, logFile))
	_, dataErr := os.Stat(filepath.Join(dir, dataFile))
	if errors.Is(logErr, fs.ErrNotExist) && dataErr == nil {
		return fmt.Errorf("%s is missing from %s, which has %s: the member has lost its vote and what it acknowledged; it can come back under a new id, with an empty folder",
			logFile, dir, dataFile)
	}
	return nil
}

// recover brings log and data together. They can only disagree after a crash
// in InstallSnapshot, between the step that puts the new data in place and the
// one that restarts the log behind it.
func (s *Storage) recover() error {
	applied := s.Data.Position()
	if applied.Index < s.Log.base.Index {
		return fmt.Errorf("data.db is at index %d, but log.db starts only after index %d: these files do not belong together",
			applied.Index, s.Log.base.Index)
	}
	if term, err := s.Log.mem.Term(applied.Index); err != nil || term != applied.Term {
		return s.Log.reset(applied, nil)
	}
	return nil
}

// InstallSnapshot replaces all data by the database file at path, and the log
// by an empty one that continues it. The file must be complete and synced; it
// is moved, not copied. A crash at any point leaves a directory from which Open
// finds either the old state or the new one. The hard state may have a commit index
// that covers entries behind the snapshot; it is saved with them, by Log.Save.
func (s *Storage) InstallSnapshot(path string, meta *raftpb.SnapshotMetadata, hs *raftpb.HardState) error {
	want := Position{Index: meta.GetIndex(), Term: meta.GetTerm()}
	if err := s.Data.replace(path, want); err != nil {
		return fmt.Errorf("install snapshot: %w", err)
	}
	if err := s.Log.reset(want, hs); err != nil {
		return fmt.Errorf("restart log after snapshot: %w", err)
	}
	return nil
}

// Close closes both files. It waits for snapshot readers to be closed.
func (s *Storage) Close() error { return errors.Join(s.Log.close(), s.Data.close()) }

// Raft is the storage as raft reads it.
func (s *Storage) Raft() raft.Storage { return raftStorage{s.Log.mem, s} }

// raftStorage answers from the log's copy in memory, and takes from the data
// what belongs to the data: which members there are, and what a snapshot taken
// now would be a snapshot of.
type raftStorage struct {
	*raft.MemoryStorage
	s *Storage
}

// InitialState implements raft.Storage. The configuration is that of the
// applied data, not the newest in the log: raft applies the entries after it
// again.
func (r raftStorage) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	return r.s.restartState(), r.s.Data.ConfState(), nil
}

// Snapshot implements raft.Storage.
func (r raftStorage) Snapshot() (*raftpb.Snapshot, error) {
	return &raftpb.Snapshot{Metadata: r.s.Data.metadata()}, nil
}

// restartState is the hard state to start raft from: what was saved, brought
// up to what the data proves. A commit index alone is not worth a sync (raft's
// MustSync says so), and an installed snapshot may be ahead of the hard state
// that came with it. Raft does not start with a commit index that the log does not
// reach.
func (s *Storage) restartState() *raftpb.HardState {
	saved, applied := s.Log.savedState(), s.Data.Position()
	_, last, _ := s.Log.Extent()
	term, vote := saved.GetTerm(), saved.GetVote()
	if applied.Term > term {
		term, vote = applied.Term, 0
	}
	return &raftpb.HardState{
		Term:   new(term),
		Vote:   new(vote),
		Commit: new(min(max(saved.GetCommit(), applied.Index), last)),
	}
}

// Position names an entry of the log.
type Position struct{ Index, Term uint64 }

func (p Position) encode() []byte {
	b := binary.BigEndian.AppendUint64(nil, p.Index)
	return binary.BigEndian.AppendUint64(b, p.Term)
}

func decodePosition(b []byte) (Position, error) {
	switch len(b) {
	case 0:
		return Position{}, nil
	case 16:
		return Position{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}, nil
	default:
		return Position{}, fmt.Errorf("log position of %d bytes", len(b))
	}
}

func indexKey(index uint64) []byte { return binary.BigEndian.AppendUint64(nil, index) }
