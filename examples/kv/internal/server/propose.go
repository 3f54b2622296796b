package server

import (
	"context"
	"errors"

	"go.etcd.io/raft/v3"

	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/api"
)

// maxWrites is how many writes may wait for the group at once. It does not bound
// the memory that clients can take: a request is read before, up to 1 MiB of it.
const maxWrites = 1024

// propose has the group agree on a command, and returns when this member has
// applied it. With any member that is not the leader, raft passes the command
// on.
func (s *Server) propose(ctx context.Context, c command) (api.Written, error) {
	select {
	case s.writing <- struct{}{}:
		defer func() { <-s.writing }()
	default:
		return api.Written{}, api.ErrOverloaded
	}
	c.request = s.nextID.Add(1)
	o, err := s.await(ctx, c.request, func(ctx context.Context) error { return s.node.Propose(ctx, c.encode()) })
	return api.Written{Index: o.index}, err
}

// await calls submit, which proposes an entry that carries the request's id,
// and waits for what comes of it.
func (s *Server) await(ctx context.Context, request uint64, submit func(context.Context) error) (outcome, error) {
	answer := s.waiters.add(request)
	defer s.waiters.remove(request)
	if err := submit(ctx); err != nil {
		return outcome{}, s.proposalError(err)
	}
	select {
	case o := <-answer:
		return o, o.err
	case <-ctx.Done():
		return outcome{}, api.ErrTimeout
	case <-s.life.Done():
		return outcome{}, api.ErrStopping
	}
}

func (s *Server) proposalError(err error) error {
	switch {
	case errors.Is(err, raft.ErrProposalDropped):
		return api.ErrDropped
	case errors.Is(err, raft.ErrStopped):
		return api.ErrStopping
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		// Propose blocks while there is no leader to propose to.
		return api.ErrNoLeader
	default:
		return err
	}
}
