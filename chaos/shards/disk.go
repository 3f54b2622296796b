//go:build unix

package main

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp/snap"
)

// disk has what a replica must not forget: its log in a file, which is written anew at each snapshot, and the databases that
// it has received.
type disk struct {
	*raft.MemoryStorage
	dir       string
	file      *os.File
	databases *snap.Store
}

const (
	logName   = "log"
	endedName = "ended" // a file of this name says that the replica was removed
)

// Kinds of records of a log.
const (
	hardStateRecord = iota
	entryRecord
	snapshotRecord
)

const recordHead = 9 // bytes: kind, length, checksum

func appendRecord(b []byte, kind byte, m proto.Message) ([]byte, error) {
	payload, err := proto.Marshal(m)
	if err != nil {
		return nil, err
	}
	b = append(b, kind)
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	b = binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(payload))
	return append(b, payload...), nil
}

// openDisk opens the disk of a replica in a folder, which is empty for a new one.
func openDisk(dir string) (d *disk, err error) {
	d = &disk{MemoryStorage: raft.NewMemoryStorage(), dir: dir}
	if err = os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if d.databases, err = snap.Open(filepath.Join(dir, "databases")); err != nil {
		return nil, err
	}
	if d.file, err = os.OpenFile(filepath.Join(dir, logName), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return nil, errors.Join(err, d.databases.Close())
	}
	whole, err := d.read()
	if err == nil {
		err = d.file.Truncate(whole) // a record that a crash has torn was promised to nobody
	}
	if err == nil {
		_, err = d.file.Seek(whole, io.SeekStart)
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

// read reads the log, and returns its length without a torn record at the end.
func (d *disk) read() (whole int64, err error) {
	b, err := io.ReadAll(d.file)
	if err != nil {
		return 0, err
	}
	for len(b) >= recordHead {
		n := int(binary.BigEndian.Uint32(b[1:]))
		if len(b)-recordHead < n || crc32.ChecksumIEEE(b[recordHead:recordHead+n]) != binary.BigEndian.Uint32(b[5:]) {
			break
		}
		if err := d.replay(b[0], b[recordHead:recordHead+n]); err != nil {
			return 0, err
		}
		whole += int64(recordHead + n)
		b = b[recordHead+n:]
	}
	return whole, nil
}

func (d *disk) replay(kind byte, payload []byte) error {
	switch kind {
	case hardStateRecord:
		var hs raftpb.HardState
		return errors.Join(proto.Unmarshal(payload, &hs), d.SetHardState(&hs))
	case entryRecord:
		var e raftpb.Entry
		return errors.Join(proto.Unmarshal(payload, &e), d.Append([]*raftpb.Entry{&e}))
	default:
		var s raftpb.Snapshot
		return errors.Join(proto.Unmarshal(payload, &s), d.ApplySnapshot(&s))
	}
}

// save appends to the log, durably.
func (d *disk) save(hs *raftpb.HardState, entries []*raftpb.Entry) (err error) {
	var b []byte
	for _, e := range entries {
		if b, err = appendRecord(b, entryRecord, e); err != nil {
			return err
		}
	}
	if !raft.IsEmptyHardState(hs) {
		if b, err = appendRecord(b, hardStateRecord, hs); err != nil {
			return err
		}
		if err := d.SetHardState(hs); err != nil {
			return err
		}
	}
	if len(b) == 0 {
		return nil
	}
	if err := d.Append(entries); err != nil {
		return err
	}
	if _, err := d.file.Write(b); err != nil {
		return err
	}
	return d.file.Sync()
}

// rewrite puts a log in the place of the present one that begins with the snapshot of the storage.
func (d *disk) rewrite() error {
	s, err := d.Snapshot()
	if err != nil {
		return err
	}
	b, err := appendRecord(nil, snapshotRecord, s)
	if err != nil {
		return err
	}
	last, err := d.LastIndex()
	if err != nil {
		return err
	}
	if first := s.GetMetadata().GetIndex() + 1; first <= last {
		entries, err := d.Entries(first, last+1, 1<<40)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if b, err = appendRecord(b, entryRecord, e); err != nil {
				return err
			}
		}
	}
	hs, _, err := d.InitialState()
	if err != nil {
		return err
	}
	if b, err = appendRecord(b, hardStateRecord, hs); err != nil {
		return err
	}
	return d.replace(b)
}

func (d *disk) replace(b []byte) error {
	path := filepath.Join(d.dir, logName)
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.Write(b); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	old := d.file
	d.file = f
	return errors.Join(syncDir(d.dir), old.Close())
}

// takeDatabase returns the database that was received with an index.
func (d *disk) takeDatabase(index uint64) ([]byte, error) {
	path, err := d.databases.DBFilePath(index)
	if err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

// end notes that the replica was removed, for good.
func (d *disk) end() error {
	f, err := os.Create(filepath.Join(d.dir, endedName))
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close(), syncDir(d.dir))
}

func (d *disk) close() error { return errors.Join(d.file.Close(), d.databases.Close()) }

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
