package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
)

// shard is a member of one raft group: it has a part of the keys.
type shard struct {
	raft.Node // with the methods below, all that a rafthttp.Raft has
	storage   *raft.MemoryStorage
	group     *rafthttp.Group
	removed   chan error // gets an error when other members say that this one was removed

	mu      sync.Mutex
	data    map[string]string
	applied uint64
	changed chan struct{}            // closed when applied grows
	waiting map[uint64]chan struct{} // by id of a command: closed when it is applied
	reads   map[uint64]chan uint64   // by id of a read: gets the index that it must see
}

// command is what an entry of the log says. Key and value are bytes, since JSON
// replaces those of a string that are not UTF-8.
type command struct {
	ID         uint64
	Key, Value []byte
}

// newStorage returns the log of a new shard with these members. A real server has it on a disk.
func newStorage(members []uint64) (*raft.MemoryStorage, error) {
	s := raft.NewMemoryStorage()
	first := new(uint64(1))
	return s, s.ApplySnapshot(&raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
		Index: first, Term: first, ConfState: &raftpb.ConfState{Voters: members},
	}})
}

// startShard starts the raft of a shard with what is in its storage.
func startShard(node uint64, storage *raft.MemoryStorage, logger raft.Logger) *shard {
	return &shard{
		Node: raft.RestartNode(&raft.Config{
			ID: node, Storage: storage, Logger: logger,
			ElectionTick: 10, HeartbeatTick: 1, PreVote: true, CheckQuorum: true,
			MaxSizePerMsg: 1 << 20, MaxInflightMsgs: 256, MaxInflightBytes: 4 << 20, MaxUncommittedEntriesSize: 8 << 20,
		}),
		storage: storage, removed: make(chan error, 1),
		data: map[string]string{}, changed: make(chan struct{}), waiting: map[uint64]chan struct{}{}, reads: map[uint64]chan uint64{},
	}
}

// Process takes a message of another member. Without a leader it blocks with a proposal until ctx ends; other groups
// are not delayed.
func (s *shard) Process(ctx context.Context, m *raftpb.Message) error { return s.Step(ctx, m) }

// IsIDRemoved says whether a member was removed. The members of this server never change.
func (s *shard) IsIDRemoved(uint64) bool { return false }

// run does what raft says until ctx ends or something fails. The time of raft is that of all shards: see server.tick.
func (s *shard) run(ctx context.Context) error {
	defer s.Stop()
	for {
		select {
		case rd := <-s.Ready():
			if err := s.save(rd); err != nil { // before anybody is promised that it is
				return fmt.Errorf("save: %w", err)
			}
			s.group.Send(rd.Messages) // does not block; what is lost is reported, and raft sends again
			if err := s.apply(rd); err != nil {
				return fmt.Errorf("apply: %w", err)
			}
			s.Advance()
		case err := <-s.removed:
			return err
		case <-ctx.Done():
			return nil
		}
	}
}

// save keeps what raft must not forget. The log is never compacted, so there are no snapshots.
func (s *shard) save(rd raft.Ready) error {
	if !raft.IsEmptyHardState(rd.HardState) {
		if err := s.storage.SetHardState(rd.HardState); err != nil {
			return err
		}
	}
	return s.storage.Append(rd.Entries)
}

// apply carries out what the members have agreed on.
func (s *shard) apply(rd raft.Ready) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range rd.CommittedEntries {
		if s.applied = e.GetIndex(); len(e.Data) == 0 { // a new leader begins with an empty entry
			continue
		}
		var c command
		if err := json.Unmarshal(e.Data, &c); err != nil {
			return err
		}
		s.data[string(c.Key)] = string(c.Value)
		if done := s.waiting[c.ID]; done != nil {
			close(done)
			delete(s.waiting, c.ID)
		}
	}
	for _, r := range rd.ReadStates {
		id := binary.BigEndian.Uint64(r.RequestCtx)
		if index := s.reads[id]; index != nil {
			index <- r.Index
			delete(s.reads, id)
		}
	}
	if len(rd.CommittedEntries) > 0 {
		close(s.changed)
		s.changed = make(chan struct{})
	}
	return nil
}

// put sets a value. It returns when this member has applied it, which a majority
// has saved by then. After an error nobody knows whether it will be.
func (s *shard) put(ctx context.Context, key, value string) error {
	c := command{ID: rand.Uint64(), Key: []byte(key), Value: []byte(value)}
	entry, err := json.Marshal(c)
	if err != nil {
		return err
	}
	done := make(chan struct{})
	s.mu.Lock()
	s.waiting[c.ID] = done
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.waiting, c.ID)
		s.mu.Unlock()
	}()
	if err := s.Propose(ctx, entry); err != nil { // waits for a leader; ErrProposalDropped if the leader has too much
		return err
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return errNotKnown
	}
}

var errNotKnown = errors.New("not known to be written: try again")

// get returns a value that is at least as new as what any put had written before the call, on any member. It may fail
// while there is no leader, or a new one: then it is to be called again.
func (s *shard) get(ctx context.Context, key string) (value string, ok bool, err error) {
	id, read := rand.Uint64(), make(chan uint64, 1)
	s.mu.Lock()
	s.reads[id] = read
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.reads, id)
		s.mu.Unlock()
	}()
	if err := s.ReadIndex(ctx, binary.BigEndian.AppendUint64(nil, id)); err != nil {
		return "", false, err
	}
	var index uint64
	select {
	case index = <-read:
	case <-ctx.Done():
		return "", false, ctx.Err()
	}
	for {
		s.mu.Lock()
		applied, changed := s.applied, s.changed
		value, ok = s.data[key]
		s.mu.Unlock()
		if applied >= index {
			return value, ok, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return "", false, ctx.Err()
		}
	}
}
