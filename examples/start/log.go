package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// diskLog keeps what raft must not forget: in memory for raft to read, and in a
// file for the next start. It only grows: a real server compacts it, and sends
// snapshots to those who would need what is gone (see examples/kv).
type diskLog struct {
	*raft.MemoryStorage
	file *os.File
}

// A record is one save: a head, and a MsgStorageAppend, raft's name for entries
// and hard state that are to be saved. The head is the length and the CRC-32 of
// the message, and the CRC-32 of these two, 4 bytes each.
const headSize = 12

var errCorrupt = errors.New("the log is corrupt")

// openLog opens the log in dir, which is made if it is missing.
func openLog(dir string) (*diskLog, error) {
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "raft.log")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	l := &diskLog{raft.NewMemoryStorage(), f}
	if err = l.replay(path); err == nil {
		// What an earlier life wrote is acted on from now on, and it may have
		// been killed before it had synced it.
		err = errors.Join(fsync(f), syncDir(dir))
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return l, nil
}

// replay reads what is there. A crash may have cut the last record off: nobody
// was told that it is saved, so it is removed. Each record is synced before the
// next is written, so one that is followed by another was not cut off by a
// crash: without it, the member would have forgotten what it promised.
func (l *diskLog) replay(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	rest := data
	for {
		body, ok := firstRecord(rest)
		if !ok {
			break
		}
		if err := l.replayRecord(body); err != nil {
			return err
		}
		rest = rest[headSize+len(body):]
	}
	end := len(data) - len(rest)
	for i := range rest {
		if _, ok := firstRecord(rest[i:]); ok {
			return fmt.Errorf("%w at byte %d: there are records behind it", errCorrupt, end)
		}
	}
	return l.file.Truncate(int64(end))
}

// firstRecord returns the message of the record at the begin of data.
func firstRecord(data []byte) (body []byte, ok bool) {
	if len(data) < headSize || crc32.ChecksumIEEE(data[:8]) != binary.BigEndian.Uint32(data[8:]) {
		return nil, false
	}
	head, rest := data[:headSize], data[headSize:]
	n := binary.BigEndian.Uint32(head)
	if uint64(n) > uint64(len(rest)) {
		return nil, false
	}
	return rest[:n], crc32.ChecksumIEEE(rest[:n]) == binary.BigEndian.Uint32(head[4:])
}

func (l *diskLog) replayRecord(body []byte) error {
	var m raftpb.Message
	if err := proto.Unmarshal(body, &m); err != nil {
		return err
	}
	state := &raftpb.HardState{Term: m.Term, Vote: m.Vote, Commit: m.Commit}
	if !raft.IsEmptyHardState(state) {
		if err := l.SetHardState(state); err != nil {
			return err
		}
	}
	return l.Append(m.Entries)
}

// save makes durable what raft has decided. After an error the server must end:
// nobody knows what is in the file.
func (l *diskLog) save(rd raft.Ready) error {
	if rd.MustSync { // else only the commit index is new, which the leader tells again
		record, err := encode(rd)
		if err != nil {
			return err
		}
		if _, err := l.file.Write(record); err != nil {
			return err
		}
		if err := fsync(l.file); err != nil {
			return err
		}
	}
	if !raft.IsEmptyHardState(rd.HardState) {
		if err := l.SetHardState(rd.HardState); err != nil {
			return err
		}
	}
	return l.Append(rd.Entries)
}

func encode(rd raft.Ready) ([]byte, error) {
	m := &raftpb.Message{Type: raftpb.MsgStorageAppend.Enum(), Entries: rd.Entries}
	if !raft.IsEmptyHardState(rd.HardState) {
		m.Term, m.Vote, m.Commit = rd.Term, rd.Vote, rd.Commit
	}
	b, err := proto.MarshalOptions{}.MarshalAppend(make([]byte, headSize), m)
	if err != nil {
		return nil, err
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-headSize))
	binary.BigEndian.PutUint32(b[4:], crc32.ChecksumIEEE(b[headSize:]))
	binary.BigEndian.PutUint32(b[8:], crc32.ChecksumIEEE(b[:8]))
	return b, nil
}

// makeDir makes dir, and those above it that are missing. The name of each is
// durable when something is made in it.
func makeDir(dir string) error {
	parent := filepath.Dir(dir)
	if _, err := os.Stat(parent); errors.Is(err, fs.ErrNotExist) {
		if err := makeDir(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := syncDir(parent); !errors.Is(err, fs.ErrPermission) { // not ours, then, and dir was there
		return err
	}
	return nil
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return fsync(d)
}

// fsync makes a file, or the names in a directory, durable. A test replaces it.
var fsync = (*os.File).Sync
