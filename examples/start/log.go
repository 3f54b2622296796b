package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
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

// A record is its length and its CRC-32, 4 bytes each, a byte that says what it
// is, and a message of raft.
const (
	headSize    = 8
	recordState = 's'
	recordEntry = 'e'
)

var errCorrupt = errors.New("log is corrupt")

// openLog opens the log in dir, which is made if it is missing.
func openLog(dir string) (*diskLog, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "raft.log")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	l := &diskLog{raft.NewMemoryStorage(), f}
	if err = errors.Join(l.replay(path), syncDir(dir)); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return l, nil
}

// replay reads what is there. A crash may have cut the last record off: nobody
// was told that it is saved, so it is removed.
func (l *diskLog) replay(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	rest := data
	for len(rest) >= headSize {
		n := uint64(binary.BigEndian.Uint32(rest))
		if n == 0 || n > uint64(len(rest)-headSize) {
			break
		}
		record := rest[headSize : headSize+n]
		if crc32.ChecksumIEEE(record) != binary.BigEndian.Uint32(rest[4:]) {
			if uint64(len(rest)) == headSize+n {
				break
			}
			return errCorrupt
		}
		if err := l.replayRecord(record); err != nil {
			return err
		}
		rest = rest[headSize+n:]
	}
	return l.file.Truncate(int64(len(data) - len(rest)))
}

func (l *diskLog) replayRecord(record []byte) error {
	switch kind, body := record[0], record[1:]; kind {
	case recordState:
		var state raftpb.HardState
		if err := proto.Unmarshal(body, &state); err != nil {
			return err
		}
		return l.SetHardState(&state)
	case recordEntry:
		var entry raftpb.Entry
		if err := proto.Unmarshal(body, &entry); err != nil {
			return err
		}
		return l.Append([]*raftpb.Entry{&entry})
	}
	return errCorrupt
}

// save makes durable what raft has decided. After an error the server must end:
// nobody knows what is in the file.
func (l *diskLog) save(rd raft.Ready) error {
	var records []byte
	for _, e := range rd.Entries {
		records = appendRecord(records, recordEntry, e)
	}
	if !raft.IsEmptyHardState(rd.HardState) {
		records = appendRecord(records, recordState, rd.HardState)
		if err := l.SetHardState(rd.HardState); err != nil {
			return err
		}
	}
	if len(records) == 0 {
		return nil
	}
	if _, err := l.file.Write(records); err != nil {
		return err
	}
	if rd.MustSync {
		if err := l.file.Sync(); err != nil {
			return err
		}
	}
	return l.Append(rd.Entries)
}

func appendRecord(b []byte, kind byte, m proto.Message) []byte {
	start := len(b)
	b = append(b, make([]byte, headSize)...)
	b = append(b, kind)
	b, _ = proto.MarshalOptions{}.MarshalAppend(b, m) // fails only on strings that are not UTF-8: there are none
	binary.BigEndian.PutUint32(b[start:], uint32(len(b)-start-headSize))
	binary.BigEndian.PutUint32(b[start+4:], crc32.ChecksumIEEE(b[start+headSize:]))
	return b
}

// syncDir makes the entry of a new file durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
