package server

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/api"
	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/storage"
)

const (
	membershipInterval = 300 * time.Millisecond // between looks at what is to be done
	changeRetry        = time.Second            // raft drops a change while another is under way
	promotionLag       = 1000                   // entries a learner may be behind when it is promoted
)

// AddMember has the group add a member as a learner: it gets the log, and is
// promoted to a voter when it has caught up, so that a new member never counts
// towards a majority that it cannot yet be part of. Adding a learner that is
// there is no error, if it is the same one: it may have missed the first answer.
func (s *Server) AddMember(ctx context.Context, m storage.Member) error {
	if m.ID == raft.None || raft.IsLocalMsgTarget(m.ID) {
		return memberError("%d is not an id", m.ID)
	}
	if err := errors.Join(checkPeerURL(m.PeerURL), checkClientURL(m.ClientURL)); err != nil {
		return memberError("%v", err)
	}
	there, ok := s.storage.Data.Membership().Members[m.ID]
	if ok && there.Learner && there.PeerURL == m.PeerURL && there.Joining == m.Joining {
		return nil
	}
	m.Learner = true
	return s.changeMembers(ctx, raftpb.ConfChangeAddLearnerNode, m)
}

// RemoveMember has the group remove a member for good. Removing one that was
// removed is no error.
func (s *Server) RemoveMember(ctx context.Context, id uint64) error {
	return s.changeMembers(ctx, raftpb.ConfChangeRemoveNode, storage.Member{ID: id})
}

func (s *Server) changeMembers(ctx context.Context, typ raftpb.ConfChangeType, m storage.Member) error {
	for {
		err := s.proposeChange(ctx, typ, m)
		var apiErr *api.Error
		if err == nil || ctx.Err() != nil || !errors.As(err, &apiErr) || !apiErr.Retry() || errors.Is(err, api.ErrStopping) {
			return err
		}
	}
}

// proposeChange tries once.
func (s *Server) proposeChange(ctx context.Context, typ raftpb.ConfChangeType, m storage.Member) error {
	ctx, cancel := context.WithTimeout(ctx, changeRetry)
	defer cancel()
	request := s.nextID.Add(1)
	about, err := json.Marshal(changeContext{Request: request, Member: m})
	if err != nil {
		return err
	}
	change := &raftpb.ConfChange{Type: typ.Enum(), NodeId: new(m.ID), Context: about}
	_, err = s.await(ctx, request, func(ctx context.Context) error { return s.node.ProposeConfChange(ctx, change) })
	return err
}

// errOtherFolder refuses a learner that has lost its folder. It has forgotten what it
// acknowledged: raft would panic at the next heartbeat, and count it, once it votes,
// as one that has it.
var errOtherFolder = api.ErrMemberExists.Detail(
	"a learner has joined with it, from another --data-dir, which was lost, or is elsewhere; without it, remove the member, and join under a new id")

// changeMembership is what a configuration change makes of a membership, or why
// it is refused.
func changeMembership(ms storage.Membership, change *raftpb.ConfChange, m storage.Member) (storage.Membership, error) {
	id := change.GetNodeId()
	there, exists := ms.Members[id]
	switch change.GetType() {
	case raftpb.ConfChangeRemoveNode:
		switch {
		case !exists && !ms.Removed[id]:
			return ms, api.ErrMemberNotFound
		case exists && !there.Learner && ms.Voters() == 1:
			return ms, api.ErrLastVoter
		}
		return ms.Without(id), nil
	case raftpb.ConfChangeAddNode:
		if exists { // a promotion
			there.Learner = false
			return ms.With(there), nil
		}
		m.Learner = false // a founding member
	case raftpb.ConfChangeAddLearnerNode:
		if exists && !there.Learner { // raft would take it for a demotion
			return ms, api.ErrMemberExists
		}
		if exists && there.Joining != 0 && there.Joining != m.Joining {
			return ms, errOtherFolder
		}
		m.Learner = true
	default:
		return ms, memberError("change of type %s", change.GetType())
	}
	m.ID = id
	if err := admit(ms, m); err != nil {
		return ms, err
	}
	return ms.With(m), nil
}

// updateMember is what a member's news of its own addresses make of a
// membership.
func updateMember(ms storage.Membership, m storage.Member) (storage.Membership, error) {
	there, ok := ms.Members[m.ID]
	if !ok {
		return ms, api.ErrMemberNotFound
	}
	m.Learner, m.Joining = there.Learner, there.Joining
	if err := admit(ms, m); err != nil {
		return ms, err
	}
	return ms.With(m), nil
}

func admit(ms storage.Membership, m storage.Member) error {
	if ms.Removed[m.ID] {
		return api.ErrMemberRemoved
	}
	if err := checkPeerURL(m.PeerURL); err != nil {
		return memberError("%v", err)
	}
	for id, other := range ms.Members {
		if id != m.ID && other.PeerURL == m.PeerURL {
			return api.ErrMemberExists
		}
	}
	return nil
}

// noteMembership does what follows from a membership that was just applied. The
// caller holds state.
func (s *Server) noteMembership() {
	ms := s.storage.Data.Membership()
	s.tellTransport(s.routed(ms))
	if ms.Removed[s.cfg.ID] && !s.removed {
		s.log.Info("this member was removed; it stops in a moment")
		s.removed = true
		time.AfterFunc(removalGrace, func() { s.end(ErrRemoved) })
	}
}

// runMembership does what is done from time to time.
func (s *Server) runMembership() {
	ticker := time.NewTicker(membershipInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			s.publish()
			if s.leader.Load() == s.cfg.ID {
				s.promote()
			}
		case <-s.life.Done():
			return
		}
	}
}

// publish tells the group where this member is reached, if it does not know:
// after the cluster was founded, or when an address has changed.
func (s *Server) publish() {
	me, ok := s.storage.Data.Membership().Members[s.cfg.ID]
	if !ok || me.PeerURL == s.cfg.PeerURL && me.ClientURL == s.cfg.ClientURL {
		return
	}
	me.PeerURL, me.ClientURL = s.cfg.PeerURL, s.cfg.ClientURL
	value, err := json.Marshal(me)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(s.life, requestTimeout)
	defer cancel()
	if _, err := s.propose(ctx, command{op: opUpdateMember, value: value}); err != nil {
		s.log.Debug("could not publish addresses", zap.Error(err))
	}
}

// promote makes a learner that has caught up a voter.
func (s *Server) promote() {
	status := s.node.Status()
	for id, m := range s.storage.Data.Membership().Members {
		progress, ok := status.Progress[id] // only a leader knows any
		if !ok || !m.Learner || !progress.RecentActive || progress.State != tracker.StateReplicate ||
			progress.Match+promotionLag < status.GetCommit() {
			continue
		}
		s.log.Info("promoting learner", zap.Uint64("learner", id))
		if err := s.proposeChange(s.life, raftpb.ConfChangeAddNode, m); err != nil {
			s.log.Debug("could not promote learner", zap.Uint64("learner", id), zap.Error(err))
		}
		return // one change at a time
	}
}

// handOver passes leadership on, if this member has it, so that its stop is
// not felt.
func (s *Server) handOver(ctx context.Context) {
	if s.leader.Load() != s.cfg.ID {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, transferTime)
	defer cancel()
	var best, match uint64
	status := s.node.Status()
	for id, progress := range status.Progress {
		if id != s.cfg.ID && !progress.IsLearner && progress.RecentActive && progress.Match >= match {
			best, match = id, progress.Match
		}
	}
	if best == raft.None {
		return
	}
	s.log.Info("handing over leadership", zap.Uint64("to", best))
	s.node.TransferLeadership(ctx, s.cfg.ID, best)
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for s.leader.Load() == s.cfg.ID {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}
