package server

import (
	"context"
	"errors"
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
// carries out, in order, what raft says is to be done. handle is handleReady, or
// handleAsyncReady.
func (s *Server) runReady(handle func(raft.Ready) error) {
	ticker := time.NewTicker(s.cfg.Tick)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			s.node.Tick()
		case rd := <-s.node.Ready():
			if err := handle(rd); err != nil {
				// What could not be written must not be acted on: there is no
				// way on but a restart from what is on disk.
				s.end(fmt.Errorf("raft: %w", err))
				return
			}
		case step := <-s.nextSnapshot():
			step.result <- s.node.Step(s.life, step.m)
		case <-s.async.idle: // nextSnapshot is not nil any more
		case err := <-s.transport.ErrorC:
			s.end(s.transportError(err))
			return
		case <-s.life.Done():
			return
		}
	}
}

// snapshotStep is a MsgSnap that waits for its turn to be given to raft.
type snapshotStep struct {
	m      *raftpb.Message
	result chan error // of Step
}

// stepSnapshot gives raft a MsgSnap. From then on raft has the members of the
// snapshot, and a change of the members that is older must not be applied to them
// (etcd#11510). So the Ready loop does it, while no committed entry that raft has
// handed out is still to be applied: between two Readys.
func (s *Server) stepSnapshot(ctx context.Context, m *raftpb.Message) error {
	step := snapshotStep{m, make(chan error, 1)}
	select {
	case s.snapshotSteps <- step:
		return <-step.result
	case <-ctx.Done():
		return ctx.Err()
	case <-s.life.Done():
		return raft.ErrStopped
	}
}

// nextSnapshot returns the snapshots that wait for raft; nil while there are
// entries with the apply thread, which the plain loop does not have.
func (s *Server) nextSnapshot() <-chan snapshotStep {
	if s.async.applying.Load() > 0 {
		return nil
	}
	return s.snapshotSteps
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
	if err := s.save(rd.HardState, rd.Entries); err != nil {
		return err
	}
	// What anyone else sends is a promise: a vote, or that entries are safe
	// here. It goes out after it is true. Send takes any number of messages and
	// does not block; what it cannot deliver it reports, and raft sends again.
	if !s.leading {
		s.transport.Send(messages)
	}
	if err := s.apply(rd.CommittedEntries); err != nil {
		return err
	}
	s.answerReads(rd.ReadStates)
	s.node.Advance()
	s.tidy()
	return nil
}

// save makes a hard state, if there is one, and entries durable.
func (s *Server) save(hs *raftpb.HardState, entries []*raftpb.Entry) error {
	defer s.took("save", time.Now())
	if err := s.storage.Log.Save(hs, entries); err != nil {
		return fmt.Errorf("save to log: %w", err)
	}
	return nil
}

func (s *Server) answerReads(states []raft.ReadState) {
	for _, state := range states {
		s.reads.answer(state)
	}
}

// tidyRetry is how long tidy waits after an attempt that failed: the next one may
// well fail, too, and be as much work.
const tidyRetry = 10 * time.Second

// tidy removes what the applied entries have made superfluous. It is called when
// raft has heard that they are applied: until then raft may read them again.
// Nothing depends on it but the room on the disk, so a failure, such as of a disk
// that is full, does not end the member.
func (s *Server) tidy() {
	s.state.Lock()
	defer s.state.Unlock()
	s.superfluous = s.storage.Data.Position().Index
	if !s.tidyFailed.IsZero() && time.Since(s.tidyFailed) < tidyRetry {
		return
	}
	s.tidyFailed = time.Time{}
	if err := errors.Join(s.snapshots.removeUnused(s.superfluous), s.compactIfLong()); err != nil {
		s.log.Error("cannot remove what is superfluous; trying again later", zap.Error(err))
		s.tidyFailed = time.Now()
	}
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
