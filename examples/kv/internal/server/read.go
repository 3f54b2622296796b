package server

import (
	"context"
	"encoding/binary"
	"sync"
	"time"

	"go.etcd.io/raft/v3"

	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/api"
)

// readRetry is how long an answer to ReadIndex may take before it is asked for
// again: like any message, it may be lost.
const readRetry = 300 * time.Millisecond

// A linearizable read is one of local data, as soon as the member has applied
// everything that was committed when the read came in. Raft says how far that
// is (ReadIndex), at the cost of one round of heartbeats; all reads that come
// in during one round share the next.

// reads gathers them.
type reads struct {
	wake   chan struct{} // holds one value while there is a batch to take
	states chan raft.ReadState

	mu   sync.Mutex
	next *readBatch // takes new reads; nil: none yet
}

type readBatch struct {
	done chan struct{}
	err  error // valid when done is closed
}

func newReads() reads {
	return reads{wake: make(chan struct{}, 1), states: make(chan raft.ReadState, 16)}
}

// join adds a read to the next batch.
func (r *reads) join() *readBatch {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next == nil {
		r.next = &readBatch{done: make(chan struct{})}
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
	return r.next
}

func (r *reads) take() *readBatch {
	r.mu.Lock()
	defer r.mu.Unlock()
	batch := r.next
	r.next = nil
	return batch
}

// answer passes on what raft says. The Ready loop calls it, so it does not
// block: an answer that nobody takes is asked for again.
func (r *reads) answer(state raft.ReadState) {
	select {
	case r.states <- state:
	default:
	}
}

// linearize returns when a local read is a linearizable one.
func (s *Server) linearize(ctx context.Context) error {
	batch := s.reads.join()
	select {
	case <-batch.done:
		return batch.err
	case <-ctx.Done():
		return api.ErrNoLeader
	case <-s.life.Done():
		return api.ErrStopping
	}
}

// runReads serves one batch of reads after the other.
func (s *Server) runReads() {
	for {
		select {
		case <-s.reads.wake:
		case <-s.life.Done():
			return
		}
		if batch := s.reads.take(); batch != nil {
			batch.err = s.confirmReads()
			close(batch.done)
		}
	}
}

// confirmReads returns when everything is applied that was committed when it
// was called.
func (s *Server) confirmReads() error {
	ctx, cancel := context.WithTimeout(s.life, requestTimeout)
	defer cancel()
	// The id is new in every run of the member, so that a late answer to
	// an earlier question is not taken for one to this.
	id := s.nextID.Add(1)
	for {
		if err := s.node.ReadIndex(ctx, binary.BigEndian.AppendUint64(nil, id)); err != nil {
			return api.ErrNoLeader
		}
		index, ok := s.awaitReadState(ctx, id)
		switch {
		case ok:
			return s.applied.wait(ctx, index)
		case ctx.Err() != nil:
			return api.ErrNoLeader
		}
	}
}

// awaitReadState waits for raft's answer, for some time.
func (s *Server) awaitReadState(ctx context.Context, id uint64) (index uint64, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, readRetry)
	defer cancel()
	for {
		select {
		case state := <-s.reads.states:
			if binary.BigEndian.Uint64(state.RequestCtx) == id {
				return state.Index, true
			}
		case <-ctx.Done():
			return 0, false
		}
	}
}
