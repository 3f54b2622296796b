package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"go.etcd.io/etcd/client/pkg/v3/fileutil"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// diskLog keeps what raft must not forget: in memory for raft to read, and in a
// file for the next start. It only grows: a real server compacts it, and sends
// snapshots to those who would need what is gone (see examples/kv).
type diskLog struct {
	*raft.MemoryStorage
	file  *os.File // locked while it is open: two processes would overwrite each other's votes
	owner owner
}

// owner is the member whose log it is. Another one must not go on with what this
// one has promised.
type owner struct{ Member, Cluster uint64 }

// The first record is the owner, as JSON. Each other one is a save: a
// MsgStorageAppend, raft's name for entries and hard state that are to be saved.
// Each has a head: the length and the CRC-32 of the record, and the CRC-32 of these
// two, 4 bytes each.
const headSize = 12

var (
	errCorrupt = errors.New("the log is corrupt")
	errNoLog   = errors.New("there is no log. At the first start, found the cluster with -new; " +
		"but a member that has lost its log must not return, since it has forgotten its votes")
	errLogExists = errors.New("there is a log already: start without -new")
)

// openLog opens the log in dir, which has to be that of own. With found it makes
// the log, and the folder; one that is there it refuses then.
func openLog(dir string, own owner, found bool) (*diskLog, error) {
	path := filepath.Join(dir, "raft.log")
	if found {
		if err := makeFile(dir, path); err != nil {
			return nil, err
		}
	}
	f, err := fileutil.TryLockFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", path, errNoLog)
	}
	if err != nil { // such as fileutil.ErrLocked
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	l := &diskLog{raft.NewMemoryStorage(), f.File, own}
	if err = l.replay(found); err == nil {
		// What an earlier life wrote is acted on from now on, and it may have
		// been killed before it had synced it.
		err = errors.Join(fsync(l.file), syncDir(dir))
	}
	if err != nil {
		l.file.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return l, nil
}

// replay reads what is there. A crash may have cut the last record off: nobody
// was told that it is saved, so it is removed. Each record is synced before the
// next is written, so one that is followed by another was not cut off by a
// crash: without it, the member would have forgotten what it promised.
func (l *diskLog) replay(found bool) error {
	data, err := io.ReadAll(l.file)
	if err != nil {
		return err
	}
	rest := data
	for {
		body, ok := firstRecord(rest)
		if !ok {
			break
		}
		if len(rest) == len(data) {
			err = l.replayOwner(body)
		} else {
			err = l.replaySave(body)
		}
		if err != nil {
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
	switch {
	case end > 0 && found:
		return errLogExists
	case end == 0 && !found:
		return errNoLog
	}
	if err := l.file.Truncate(int64(end)); err != nil {
		return err
	}
	if _, err := l.file.Seek(int64(end), io.SeekStart); err != nil || end > 0 {
		return err
	}
	own, err := json.Marshal(l.owner)
	if err != nil {
		return err
	}
	return l.write(append(make([]byte, headSize), own...))
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

func (l *diskLog) replayOwner(body []byte) error {
	var is owner
	if err := json.Unmarshal(body, &is); err != nil {
		return fmt.Errorf("the first record names no owner: %w", err)
	}
	if is != l.owner {
		return fmt.Errorf("it is the log of member %d of cluster %x, not of member %d of cluster %x",
			is.Member, is.Cluster, l.owner.Member, l.owner.Cluster)
	}
	return nil
}

func (l *diskLog) replaySave(body []byte) error {
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
		m := &raftpb.Message{Type: raftpb.MsgStorageAppend.Enum(), Entries: rd.Entries}
		if !raft.IsEmptyHardState(rd.HardState) {
			m.Term, m.Vote, m.Commit = rd.Term, rd.Vote, rd.Commit
		}
		record, err := proto.MarshalOptions{}.MarshalAppend(make([]byte, headSize), m)
		if err != nil {
			return err
		}
		if err := l.write(record); err != nil {
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

// write writes a record, which begins with room for its head.
func (l *diskLog) write(b []byte) error {
	binary.BigEndian.PutUint32(b, uint32(len(b)-headSize))
	binary.BigEndian.PutUint32(b[4:], crc32.ChecksumIEEE(b[headSize:]))
	binary.BigEndian.PutUint32(b[8:], crc32.ChecksumIEEE(b[:8]))
	_, err := l.file.Write(b)
	return err
}

// makeFile makes an empty log in dir, unless there is one.
func makeFile(dir, path string) error {
	if err := makeDir(dir); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
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
