//go:build unix

package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// state is what a group has applied.
type state struct {
	Group   uint64
	Index   uint64
	Hash    [sha256.Size]byte // of all entries until now
	Removed []uint64          // replicas, for ever
	Data    map[string]string
}

func encodeState(s state) []byte {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // of a type that is always encoded
	}
	return b
}

func decodeState(b []byte) (s state, err error) {
	if err = json.Unmarshal(b, &s); err == nil && s.Data == nil {
		s.Data = map[string]string{}
	}
	return s, err
}

// command is what an entry says: set a key, if it has a value that is named.
type command struct {
	ID         uint64
	Key, Value string
	If         bool
	ETag       string // with If: what the key must have; empty: nothing
}

// result is what became of a command, or of a change of members.
type result struct {
	err  error
	etag string // with errChanged: what the key has
}

var (
	errChanged  = errors.New("the key has another value")
	errNotKnown = errors.New("not known whether it was carried out")
)

func etagOf(value string) string {
	sum := sha256.Sum256([]byte(value))
	return `"` + hex.EncodeToString(sum[:]) + `"`
}

// apply carries out an entry. It is called with mu held.
func (r *replica) apply(e *raftpb.Entry) error {
	s := &r.state
	if e.GetIndex() != s.Index+1 {
		return fmt.Errorf("entry %d comes after %d", e.GetIndex(), s.Index)
	}
	s.Index = e.GetIndex()
	s.Hash = sha256.Sum256(append(binary.BigEndian.AppendUint64(s.Hash[:], e.GetIndex()), e.GetData()...))
	if e.GetType() == raftpb.EntryConfChange {
		return r.applyChange(e)
	}
	if len(e.GetData()) == 0 { // a new leader begins with it
		return nil
	}
	var c command
	if err := json.Unmarshal(e.GetData(), &c); err != nil {
		return err
	}
	var res result
	value, ok := s.Data[c.Key]
	has := ""
	if ok {
		has = etagOf(value)
	}
	if c.If && c.ETag != has {
		res = result{errChanged, has}
	} else {
		s.Data[c.Key] = c.Value
	}
	r.tell(c.ID, res)
	return nil
}

// applyChange carries out a change of members. It is called with mu held.
func (r *replica) applyChange(e *raftpb.Entry) error {
	var c raftpb.ConfChange
	if err := proto.Unmarshal(e.GetData(), &c); err != nil {
		return err
	}
	id := c.GetNodeId()
	var res result
	removes := c.GetType() == raftpb.ConfChangeRemoveNode
	if slices.Contains(r.state.Removed, id) || removes && len(r.conf.GetVoters()) == 1 {
		c.NodeId = new(raft.None) // has no effect
		res.err = fmt.Errorf("replica %d was removed before, or is the last one", id)
	} else if removes {
		r.state.Removed = append(r.state.Removed, id)
	}
	r.conf = r.raft.ApplyConfChange(&c)
	r.setPeers()
	r.tell(binary.BigEndian.Uint64(c.GetContext()), res)
	if removes && id == r.id && res.err == nil {
		r.setRemoved()
	}
	return r.compact(0) // a new member needs a snapshot that has the change
}

func (r *replica) tell(id uint64, res result) {
	if c := r.waiting[id]; c != nil {
		c <- res
		delete(r.waiting, id)
	}
}

// propose proposes something by f and waits for what becomes of it.
func (r *replica) propose(ctx context.Context, f func(id uint64) error) result {
	id, done := rand.Uint64(), make(chan result, 1)
	r.mu.Lock()
	err := errEnded
	if !r.ended {
		if err = f(id); err == nil {
			r.waiting[id] = done
		}
		r.drain()
	}
	r.mu.Unlock()
	if err != nil {
		return result{err: err}
	}
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.waiting, id)
	}()
	select {
	case res := <-done:
		return res
	case <-ctx.Done():
		return result{err: errNotKnown}
	}
}

func (r *replica) put(ctx context.Context, c command) result {
	return r.propose(ctx, func(id uint64) error {
		c.ID = id
		b, err := json.Marshal(c)
		if err != nil {
			return err
		}
		return r.raft.Propose(b)
	})
}

// change adds or removes a replica. The local one must be the leader.
func (r *replica) change(ctx context.Context, typ raftpb.ConfChangeType, of uint64) result {
	return r.propose(ctx, func(id uint64) error {
		if lead := r.raft.BasicStatus().Lead; lead != r.id {
			return fmt.Errorf("the leader is %d", lead)
		}
		return r.raft.ProposeConfChange(&raftpb.ConfChange{Type: &typ, NodeId: &of, Context: binary.BigEndian.AppendUint64(nil, id)})
	})
}

const readRetry = 300 * time.Millisecond

// get reads a key, with all that was written before the call unless stale is set.
func (r *replica) get(ctx context.Context, key string, stale bool) (value string, ok bool, err error) {
	index := uint64(0)
	for !stale {
		if index, err = r.readIndex(ctx); err == nil {
			break
		}
		if ctx.Err() != nil {
			return "", false, err
		}
	}
	for {
		r.mu.Lock()
		applied, changed := r.state.Index, r.changed
		value, ok = r.state.Data[key]
		r.mu.Unlock()
		if changed == nil {
			return "", false, errEnded
		}
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

// readIndex asks the leader how far a read must see. It asks once: messages may be lost.
func (r *replica) readIndex(ctx context.Context) (uint64, error) {
	id, done := rand.Uint64(), make(chan uint64, 1)
	r.do(func() {
		r.reads[id] = done
		r.raft.ReadIndex(binary.BigEndian.AppendUint64(nil, id))
	})
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.reads, id)
	}()
	ctx, cancel := context.WithTimeout(ctx, readRetry)
	defer cancel()
	select {
	case index := <-done:
		return index, nil
	case <-r.over:
		return 0, errEnded
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func (r *replica) answerRead(s raft.ReadState) {
	id := binary.BigEndian.Uint64(s.RequestCtx)
	if c := r.reads[id]; c != nil {
		c <- s.Index
		delete(r.reads, id)
	}
}
