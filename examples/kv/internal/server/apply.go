package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/api"
	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/storage"
)

var errStopped = errors.New("stopped while applying a configuration change")

// apply carries out committed entries, all in one transaction, and then tells
// those who wait for them. What an entry does depends on nothing but the state
// and the entry, so that all members come to the same.
func (s *Server) apply(entries []*raftpb.Entry) error {
	s.state.Lock()
	defer s.state.Unlock()
	if len(entries) == 0 {
		return nil
	}
	if first, applied := entries[0].GetIndex(), s.storage.Data.Position().Index; first != applied+1 {
		return fmt.Errorf("apply: entry %d after entry %d", first, applied)
	}
	defer s.took("apply", time.Now())
	if err := s.applyBatch(entries); err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	return nil
}

func (s *Server) applyBatch(entries []*raftpb.Entry) error {
	batch, err := s.storage.Data.Begin()
	if err != nil {
		return err
	}
	outcomes := make([]outcome, len(entries))
	membershipChanged := false
	for i, e := range entries {
		if outcomes[i], err = s.applyEntry(batch, e); err != nil {
			return errors.Join(fmt.Errorf("entry %d: %w", e.GetIndex(), err), batch.Rollback())
		}
		membershipChanged = membershipChanged || outcomes[i].membership
	}
	last := entries[len(entries)-1]
	if err := batch.Commit(storage.Position{Index: last.GetIndex(), Term: last.GetTerm()}); err != nil {
		return err
	}
	if membershipChanged {
		s.noteMembership()
	}
	s.applied.set(last.GetIndex())
	s.waiters.tell(outcomes)
	return nil
}

// outcome is what came of an entry.
type outcome struct {
	request    uint64
	index      uint64
	err        error // why it was refused, for the client
	membership bool  // it may have changed who the members are
}

func (s *Server) applyEntry(batch *storage.Batch, e *raftpb.Entry) (outcome, error) {
	switch e.GetType() {
	case raftpb.EntryConfChange:
		return s.applyConfChange(batch, e)
	case raftpb.EntryNormal:
		if len(e.GetData()) == 0 {
			return outcome{}, nil // a new leader starts its term with an empty entry
		}
		return applyCommand(batch, e)
	default:
		return outcome{}, fmt.Errorf("unexpected type %s", e.GetType())
	}
}

func applyCommand(batch *storage.Batch, e *raftpb.Entry) (outcome, error) {
	c, err := decodeCommand(e.GetData())
	if err != nil {
		return outcome{}, err
	}
	o := outcome{request: c.request, index: e.GetIndex()}
	switch c.op {
	case opPut:
		return o, batch.Put(c.key, c.value)
	case opPutIf:
		cond, value, err := c.conditional()
		if err != nil {
			return o, err
		}
		if there := batch.Get(c.key); !cond.holds(there) {
			o.err = changed(there)
			return o, nil
		}
		return o, batch.Put(c.key, value)
	case opDelete:
		_, err := batch.Delete(c.key)
		return o, err
	case opUpdateMember:
		var m storage.Member
		if err := json.Unmarshal(c.value, &m); err != nil {
			return o, err
		}
		ms, err := updateMember(batch.Membership(), m)
		o.err, o.membership = err, err == nil
		batch.SetMembership(ms)
		return o, nil
	default:
		return o, fmt.Errorf("%w: operation %d", errBadCommand, c.op)
	}
}

// changed is the answer to a conditional write that found another value; nil:
// none.
func changed(there []byte) *api.Error {
	err := *api.ErrChanged
	if there != nil {
		err.ETag = api.ETag(there)
	}
	return &err
}

// changeContext is what a configuration change carries beside what raft needs.
type changeContext struct {
	Request uint64         `json:"request"`
	Member  storage.Member `json:"member"`
}

// applyConfChange changes who the members are, for us and for raft. A change
// that does not fit, because another came first, is refused: raft is then given
// one that changes nothing.
func (s *Server) applyConfChange(batch *storage.Batch, e *raftpb.Entry) (outcome, error) {
	change := &raftpb.ConfChange{}
	if err := proto.Unmarshal(e.GetData(), change); err != nil {
		return outcome{}, err
	}
	var about changeContext
	if len(change.GetContext()) > 0 {
		if err := json.Unmarshal(change.GetContext(), &about); err != nil {
			return outcome{}, err
		}
	}
	ms, refused := changeMembership(batch.Membership(), change, about.Member)
	if refused != nil {
		change.NodeId = new(uint64(0))
	}
	confState := s.node.ApplyConfChange(change)
	if confState == nil {
		return outcome{}, errStopped
	}
	batch.SetMembership(ms)
	batch.SetConfState(confState)
	return outcome{request: about.Request, index: e.GetIndex(), err: refused, membership: true}, nil
}

// waiters finds the client request that an entry answers.
type waiters struct {
	mu sync.Mutex
	m  map[uint64]chan outcome
}

func newWaiters() waiters { return waiters{m: make(map[uint64]chan outcome)} }

// add returns a channel that gets the outcome of the request, once.
func (w *waiters) add(request uint64) <-chan outcome {
	ch := make(chan outcome, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.m[request] = ch
	return ch
}

// remove forgets a request.
func (w *waiters) remove(request uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.m, request)
}

// tell gives those who wait here their outcomes; most entries are other
// members'.
func (w *waiters) tell(outcomes []outcome) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, o := range outcomes {
		if ch, ok := w.m[o.request]; ok {
			ch <- o
			delete(w.m, o.request)
		}
	}
}

// failAll gives all who wait an error.
func (w *waiters) failAll(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, ch := range w.m {
		ch <- outcome{err: err}
	}
	clear(w.m)
}

// appliedIndex is the index of the newest applied entry, to wait for.
type appliedIndex struct {
	mu      sync.Mutex
	index   uint64
	changed chan struct{} // closed at the next change; nil: nobody waits
}

func (a *appliedIndex) set(index uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.index = index
	if a.changed != nil {
		close(a.changed)
		a.changed = nil
	}
}

// wait returns when everything up to index is applied.
func (a *appliedIndex) wait(ctx context.Context, index uint64) error {
	for {
		a.mu.Lock()
		if a.index >= index {
			a.mu.Unlock()
			return nil
		}
		if a.changed == nil {
			a.changed = make(chan struct{})
		}
		changed := a.changed
		a.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return api.ErrTimeout
		}
	}
}
