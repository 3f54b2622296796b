package server

import (
	"fmt"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/api"
)

// removalGrace is how long a removed member goes on before it stops: a leader
// that removes itself has yet to tell the others that the change is committed.
const removalGrace = time.Second

// runReady is the heart of a member: it gives raft its sense of time, and
// carries out, in order, what raft says is to be done.
func (s *Server) runReady() {
	ticker := time.NewTicker(s.cfg.Tick)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			s.node.Tick()
		case rd := <-s.node.Ready():
			if err := s.handleReady(rd); err != nil {
				// What could not be written must not be acted on: there is no
				// way on but a restart from what is on disk.
				s.end(fmt.Errorf("raft: %w", err))
				return
			}
			s.node.Advance()
		case result := <-s.compactions:
			result <- s.compact()
		case err := <-s.transport.ErrorC:
			s.end(transportError(err))
			return
		case <-s.removedAt:
			s.end(ErrRemoved)
			return
		case <-s.life.Done():
			return
		}
	}
}

// handleReady carries out one batch of raft's decisions.
func (s *Server) handleReady(rd raft.Ready) error {
	if rd.SoftState != nil {
		s.noteLeader(rd.SoftState)
	}
	messages := s.divertSnapshots(rd.Messages)
	// What a leader sends does not depend on what it has yet to write: followers
	// may write the same entries at the same time (section 10.2.1 of the raft
	// thesis). Its own vote for them counts only after Advance.
	if s.leading {
		s.transport.Send(messages)
	}
	if !raft.IsEmptySnap(rd.Snapshot) {
		if err := s.installSnapshot(rd.Snapshot, rd.HardState); err != nil {
			return err
		}
	}
	// MustSync is false when only the commit index has changed, which a member
	// learns again from the leader.
	if rd.MustSync {
		if err := s.storage.Log.Save(rd.HardState, rd.Entries); err != nil {
			return fmt.Errorf("save to log: %w", err)
		}
	}
	// What anyone else sends is a promise: a vote, or that entries are safe
	// here. It goes out after it is true. Send takes any number of messages and
	// does not block; what it cannot deliver it reports, and raft sends again.
	if !s.leading {
		s.transport.Send(messages)
	}
	if err := s.apply(rd.CommittedEntries); err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	if err := s.snapshots.removeUnused(s.storage.Data.Position().Index); err != nil {
		return err
	}
	for _, state := range rd.ReadStates {
		s.reads.answer(state)
	}
	return s.compactIfLong()
}

// noteLeader takes note of who leads now.
func (s *Server) noteLeader(now *raft.SoftState) {
	s.leading = now.RaftState == raft.StateLeader
	before := s.leader.Swap(now.Lead)
	if before == now.Lead {
		return
	}
	s.log.Info("leader changed", zap.Uint64("from", before), zap.Uint64("to", now.Lead))
	if before != raft.None {
		// Proposals on their way to the old leader may be lost. Those who wait
		// for them had better ask again than wait for nothing.
		s.waiters.failAll(api.ErrLeaderChanged)
	}
}

// divertSnapshots starts sending the snapshots among the messages, which are
// not for Send, and returns the others.
func (s *Server) divertSnapshots(messages []*raftpb.Message) []*raftpb.Message {
	isSnapshot := func(m *raftpb.Message) bool { return m.GetType() == raftpb.MsgSnap }
	if !slices.ContainsFunc(messages, isSnapshot) {
		return messages
	}
	rest := make([]*raftpb.Message, 0, len(messages)) // a Ready is not ours to change
	for _, m := range messages {
		if isSnapshot(m) {
			s.sendSnapshot(m)
		} else {
			rest = append(rest, m)
		}
	}
	return rest
}
