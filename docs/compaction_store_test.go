package docs_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// disk is one directory of a file system. A change of a file is durable after Sync, a change of names after SyncDir.
type disk interface {
	Read(name string) ([]byte, error)
	Write(name string, data []byte) error // creates or truncates the file
	Append(name string, data []byte) error
	Sync(name string) error
	Rename(from, to string) error
	SyncDir() error
}

// stateFile has the state of the application at one index, a raftpb.Snapshot with its data. logFile has records, each a
// raftpb.Message with entries and the hard state. The first record also has a Snapshot: the entry that the log begins after.
const stateFile, logFile = "state", "log"

// store is what a member must not forget.
type store struct {
	disk   disk
	memory *raft.MemoryStorage // for raft to read
	state  *raftpb.Snapshot    // as in stateFile
	hard   *raftpb.HardState   // as in logFile; the commit index may be newer
}

// save makes a Ready durable. Call it before Send.
func (s *store) save(rd raft.Ready) error {
	if !raft.IsEmptySnap(rd.Snapshot) {
		if err := s.install(rd.Snapshot, rd.HardState); err != nil {
			return err
		}
	}
	if !raft.IsEmptyHardState(rd.HardState) {
		s.hard = rd.HardState
	}
	if rd.MustSync { // otherwise only the commit index is new, and the member learns it again
		record := encode(s.record(rd.Entries))
		if err := errors.Join(s.disk.Append(logFile, record), s.disk.Sync(logFile)); err != nil {
			return err
		}
	}
	return errors.Join(s.memory.SetHardState(s.hard), s.memory.Append(rd.Entries))
}

// install replaces the state by a received one, and the log by an empty one after it.
func (s *store) install(snapshot *raftpb.Snapshot, hs *raftpb.HardState) error {
	if err := s.replace(stateFile, snapshot); err != nil { // 1
		return err
	}
	s.state = snapshot
	if raft.IsEmptyHardState(hs) {
		hs = s.hard
	}
	// The log has no entries yet, so it must not say that any after the snapshot are committed.
	s.hard = &raftpb.HardState{Term: hs.Term, Vote: hs.Vote, Commit: snapshot.GetMetadata().Index}
	if err := s.memory.ApplySnapshot(snapshot); err != nil {
		return err
	}
	return s.rewriteLog() // 2
}

// compact makes a newer state durable, and removes the entries up to an index, which the state covers. After errUnchanged
// nothing has happened, or only a part that does no harm: try again later. After any other error the server must stop.
func (s *store) compact(state *raftpb.Snapshot, upTo uint64) error {
	at := state.GetMetadata()
	if err := s.replace(stateFile, state); err != nil { // 1
		return err
	}
	s.state = state
	if _, err := s.memory.CreateSnapshot(at.GetIndex(), at.GetConfState(), state.Data); err != nil { // 2
		return err
	}
	if err := s.memory.Compact(min(upTo, at.GetIndex())); err != nil { // 3
		if errors.Is(err, raft.ErrCompacted) {
			return nil // these entries are gone already
		}
		return err
	}
	return s.rewriteLog() // 4
}

// rewriteLog replaces the log by one that has what is in memory: one record.
func (s *store) rewriteLog() error {
	first, _ := s.memory.FirstIndex() // a MemoryStorage returns no error here
	last, _ := s.memory.LastIndex()
	term, err := s.memory.Term(first - 1) // kept after compaction, for comparison
	if err != nil {
		return err
	}
	var entries []*raftpb.Entry
	if first <= last {
		if entries, err = s.memory.Entries(first, last+1, 1<<62); err != nil {
			return err
		}
	}
	m := s.record(entries)
	m.Snapshot = &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: new(first - 1), Term: new(term)}}
	return s.replace(logFile, m)
}

func (s *store) record(entries []*raftpb.Entry) *raftpb.Message {
	return &raftpb.Message{Type: raftpb.MsgStorageAppend.Enum(), Entries: entries, Term: s.hard.Term, Vote: s.hard.Vote, Commit: s.hard.Commit}
}

// errUnchanged says that a file was not replaced: the old one is in place and valid.
var errUnchanged = errors.New("the file is unchanged")

// replace replaces a file in one step: after a crash there is the old one or the new one.
func (s *store) replace(name string, m proto.Message) error {
	next := name + ".new"
	err := s.disk.Write(next, encode(m))
	if err == nil {
		err = s.disk.Sync(next)
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %w", name, errUnchanged, err)
	}
	if err := s.disk.Rename(next, name); err != nil {
		return err
	}
	return s.disk.SyncDir()
}

// openStore opens a member's state and log after a restart.
func openStore(d disk) (*store, error) {
	s := &store{disk: d, state: &raftpb.Snapshot{}}
	begin, entries, err := s.readLog()
	if err != nil {
		return nil, err
	}
	data, err := d.Read(stateFile)
	if err != nil {
		return nil, err
	}
	body, whole := firstRecord(data)
	if !whole {
		return nil, errors.New("the state is corrupt")
	}
	if err := proto.Unmarshal(body, s.state); err != nil {
		return nil, err
	}
	if s.memory, _, err = openLog(s.state, begin, entries, s.hard); err != nil {
		return nil, err
	}
	// From now on the member acts on what it has read, which a killed process may have written and not synced.
	if err := d.SyncDir(); err != nil {
		return nil, err
	}
	return s, s.rewriteLog()
}

// readLog returns what the log begins after, and its entries. It sets the hard state.
func (s *store) readLog() (begin *raftpb.SnapshotMetadata, entries []*raftpb.Entry, err error) {
	rest, err := s.disk.Read(logFile)
	if err != nil {
		return nil, nil, err // if it does not exist: this member has lost its vote, and must not start again
	}
	for {
		body, whole := firstRecord(rest)
		if !whole {
			break
		}
		var m raftpb.Message
		if err := proto.Unmarshal(body, &m); err != nil {
			return nil, nil, err
		}
		if m.Snapshot != nil {
			begin = m.Snapshot.GetMetadata()
		}
		if len(m.Entries) > 0 { // they replace those from the same index on
			entries = append(entries[:m.Entries[0].GetIndex()-begin.GetIndex()-1], m.Entries...)
		}
		s.hard = &raftpb.HardState{Term: m.Term, Vote: m.Vote, Commit: m.Commit}
		rest = rest[recordHead+len(body):]
	}
	for i := range rest { // a crash can only truncate the last record
		if _, whole := firstRecord(rest[i:]); whole {
			return nil, nil, errors.New("the log is corrupt: there are records after a bad one")
		}
	}
	if begin == nil {
		return nil, nil, errors.New("the log is corrupt: it has no beginning")
	}
	return begin, entries, nil
}

// recordHead is the size of the head of a record: its length, its CRC-32, and the CRC-32 of these two.
const recordHead = 12

// encode returns the record of a message.
func encode(m proto.Message) []byte {
	record, err := proto.MarshalOptions{}.MarshalAppend(make([]byte, recordHead), m)
	if err != nil {
		panic(err) // raftpb has nothing that cannot be encoded
	}
	binary.BigEndian.PutUint32(record, uint32(len(record)-recordHead))
	binary.BigEndian.PutUint32(record[4:], crc32.ChecksumIEEE(record[recordHead:]))
	binary.BigEndian.PutUint32(record[8:], crc32.ChecksumIEEE(record[:8]))
	return record
}

// firstRecord returns the body of the first record of data, if that is complete.
func firstRecord(data []byte) (body []byte, whole bool) {
	if len(data) < recordHead || crc32.ChecksumIEEE(data[:8]) != binary.BigEndian.Uint32(data[8:]) {
		return nil, false
	}
	n, rest := uint64(binary.BigEndian.Uint32(data)), data[recordHead:]
	if n > uint64(len(rest)) || crc32.ChecksumIEEE(rest[:n]) != binary.BigEndian.Uint32(data[4:]) {
		return nil, false
	}
	return rest[:n], true
}

// found creates the state and the log of a first member: the log first, since a state without a log means a lost log.
func found(d disk, voters ...uint64) error {
	begin := &raftpb.SnapshotMetadata{Index: new(uint64(1)), Term: new(uint64(1)), ConfState: &raftpb.ConfState{Voters: voters}}
	s := &store{disk: d, memory: raft.NewMemoryStorage(), hard: &raftpb.HardState{Term: new(uint64(1)), Commit: new(uint64(1))}}
	snapshot := &raftpb.Snapshot{Metadata: begin}
	return errors.Join(s.memory.ApplySnapshot(snapshot), s.rewriteLog(), s.replace(stateFile, snapshot))
}
