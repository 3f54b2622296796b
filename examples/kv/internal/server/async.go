package server

import (
	"fmt"
	"sync/atomic"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/storage"
)

// With Config.AsyncStorageWrites raft does not wait for the disk. The Ready loop
// passes raft's writes on to two threads: one writes the log, one applies
// committed entries to the data. Each message to a thread has responses, which
// depend on it; docs/async-storage-writes.md has the rules. What the threads call
// is what the plain loop in ready.go calls.

// maxWaiting is how many messages may wait for a thread before the Ready loop
// waits, too.
const maxWaiting = maxInflight

// asyncThreads are the messages that wait for the two threads.
type asyncThreads struct {
	appends, applies chan *raftpb.Message

	applying atomic.Int64  // messages that the apply thread has not carried out yet
	idle     chan struct{} // holds a value when there are none any more
}

// startAsync starts the two threads.
func (s *Server) startAsync() {
	s.async.appends = make(chan *raftpb.Message, maxWaiting)
	s.async.applies = make(chan *raftpb.Message, maxWaiting)
	s.async.idle = make(chan struct{}, 1)
	s.ready.Go(func() { s.runThread(s.async.appends, s.saveAll) })
	s.ready.Go(func() { s.runThread(s.async.applies, s.applyAll) })
}

// handleAsyncReady carries out one batch of raft's decisions, or has the threads
// do so. There is no Advance: the responses take its place.
func (s *Server) handleAsyncReady(rd raft.Ready) error {
	if rd.SoftState != nil {
		s.noteLeader(rd.SoftState)
	}
	peers, appends, applies := rafthttp.SplitMessages(rd.Messages)
	s.transport.Send(s.divertSnapshots(peers))
	s.hand(s.async.appends, appends)
	s.async.applying.Add(int64(len(applies)))
	s.hand(s.async.applies, applies)
	s.answerReads(rd.ReadStates)
	return nil
}

func (s *Server) hand(thread chan<- *raftpb.Message, messages []*raftpb.Message) {
	for _, m := range messages {
		select {
		case thread <- m:
		case <-s.life.Done():
		}
	}
}

// runThread carries out the messages to one thread: all that wait, together, and
// so with one sync; then it delivers their responses, in order.
func (s *Server) runThread(waiting <-chan *raftpb.Message, carryOut func([]*raftpb.Message) error) {
	for {
		var messages []*raftpb.Message
		select {
		case m := <-waiting:
			messages = append(messages, m)
		case <-s.life.Done():
			return
		}
		for len(waiting) > 0 {
			messages = append(messages, <-waiting)
		}
		if err := carryOut(messages); err != nil {
			s.end(fmt.Errorf("raft: %w", err)) // as in the plain loop
			return
		}
	}
}

// deliver delivers the responses of messages that were carried out.
func (s *Server) deliver(messages []*raftpb.Message) error {
	step := func(m *raftpb.Message) error { return s.node.Step(s.life, m) }
	for _, m := range messages {
		if err := rafthttp.DeliverResponses(m, step, s.transport.Send); err != nil {
			return err
		}
	}
	return nil
}

// saveAll carries out messages to the append thread: snapshots, entries and hard
// states become durable.
func (s *Server) saveAll(messages []*raftpb.Message) error {
	hs, entries := &raftpb.HardState{}, []*raftpb.Entry(nil)
	for _, m := range messages {
		if now := hardState(m); !raft.IsEmptyHardState(now) {
			hs = now
		}
		if !raft.IsEmptySnap(m.GetSnapshot()) {
			entries = nil // the snapshot replaces those before it
			if err := s.installSnapshot(m.GetSnapshot(), hs); err != nil {
				return err
			}
		}
		entries = storage.Join(entries, m.GetEntries())
	}
	if err := s.save(hs, entries); err != nil {
		return err
	}
	return s.deliver(messages)
}

// hardState returns that of a MsgStorageAppend: empty if it has not changed.
func hardState(m *raftpb.Message) *raftpb.HardState {
	return &raftpb.HardState{Term: m.Term, Vote: m.Vote, Commit: m.Commit}
}

// applyAll carries out messages to the apply thread: their entries change the
// data.
func (s *Server) applyAll(messages []*raftpb.Message) error {
	var entries []*raftpb.Entry
	for _, m := range messages {
		entries = append(entries, m.GetEntries()...)
	}
	if err := s.apply(entries); err != nil {
		return err
	}
	if err := s.deliver(messages); err != nil {
		return err
	}
	if s.async.applying.Add(-int64(len(messages))) == 0 {
		select {
		case s.async.idle <- struct{}{}:
		default:
		}
	}
	s.tidy()
	return nil
}
