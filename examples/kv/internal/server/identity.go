package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/raft/v3"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/api"
	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/client"
	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/storage"
)

// joinTime is how long a cluster may take to take a new member in.
const joinTime = 30 * time.Second

// identify finds out who this member is, and which others it knows: from its
// storage or, at the first start, by founding a cluster or joining one. The
// peers are for raft.StartNode; there are none unless the cluster is founded.
func (s *Server) identify(ctx context.Context) (peers []raft.Peer, known storage.Membership, err error) {
	identity, started, err := s.storage.Log.Identity()
	if err != nil {
		return nil, known, err
	}
	known = s.storage.Data.Membership()
	_, last, _ := s.storage.Log.Extent()
	switch {
	case started && identity.ID != s.cfg.ID:
		return nil, known, fmt.Errorf("--data-dir: %s belongs to member %d, not %d (--id)", s.cfg.DataDir, identity.ID, s.cfg.ID)
	case known.Removed[s.cfg.ID]:
		return nil, known, ErrRemoved
	case started && last > 0: // it may have applied nothing yet: raft has the members from the log then
		s.clusterID = identity.ClusterID
		return nil, known, nil
	case s.cfg.Join != "":
		known, err = s.join(ctx)
	case len(s.cfg.Bootstrap) > 0:
		peers, err = s.found(ctx, started)
	default:
		err = errors.New("--data-dir: empty: a new member needs --cluster, to found a cluster, or --join, to join one")
	}
	if err != nil {
		return nil, known, err
	}
	if started && identity.ClusterID != s.clusterID {
		return nil, known, fmt.Errorf("--data-dir: %s belongs to cluster %x, not %x", s.cfg.DataDir, identity.ClusterID, s.clusterID)
	}
	return peers, known, s.storage.Log.SetIdentity(storage.Identity{ID: s.cfg.ID, ClusterID: s.clusterID})
}

// found founds the cluster, with the others. A member that was about to before, and
// died, has its folder.
func (s *Server) found(ctx context.Context, started bool) ([]raft.Peer, error) {
	s.clusterID = foundingID(s.cfg.Bootstrap)
	if !started {
		if err := s.askFounders(ctx); err != nil {
			return nil, err
		}
	}
	return foundingPeers(s.cfg.Bootstrap)
}

// join asks the cluster to take this member in. Asking again, after a crash
// before anything was received, does no harm.
func (s *Server) join(ctx context.Context) (storage.Membership, error) {
	ctx, cancel := context.WithTimeout(ctx, joinTime)
	defer cancel()
	c, err := client.New(s.cfg.Join)
	if err != nil {
		return storage.Membership{}, err
	}
	defer c.Close()
	s.log.Info("joining", zap.String("through", s.cfg.Join))
	cluster, err := c.AddMember(ctx, storage.Member{ID: s.cfg.ID, PeerURL: s.cfg.PeerURL, ClientURL: s.cfg.ClientURL})
	if errors.Is(err, api.ErrMemberRemoved) || errors.Is(err, api.ErrMemberExists) {
		return storage.Membership{}, fmt.Errorf("--id or --peer-url: %w", err)
	}
	if err != nil {
		return storage.Membership{}, fmt.Errorf("--join: %s: %w", s.cfg.Join, err)
	}
	s.clusterID = cluster.ID
	var known storage.Membership
	for _, m := range cluster.Members {
		known = known.With(m)
	}
	return known, nil
}
