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

// checkFolder returns who the member is, if its folder says so, and whether it
// starts again on what is there. If it does not, the flags of a first start have to
// fit.
func (s *Server) checkFolder() (identity storage.Identity, again bool, err error) {
	identity, begun, err := s.storage.Log.Identity()
	_, last, _ := s.storage.Log.Extent()
	switch {
	case err != nil:
		return identity, false, err
	case identity.ClusterID != 0 && identity.ID != s.cfg.ID:
		return identity, false, fmt.Errorf("--data-dir: %s belongs to member %d, not %d (--id)", s.cfg.DataDir, identity.ID, s.cfg.ID)
	case identity.Removed || s.storage.Data.Membership().Removed[s.cfg.ID]: // it was told, or has applied it
		return identity, false, fmt.Errorf("--data-dir: %s: %w; it can come back under a new id, with an empty folder", s.cfg.DataDir, ErrRemoved)
	case begun && last > 0: // it may have applied nothing yet: raft has the members from the log then
		return identity, true, nil
	}
	return identity, false, s.cfg.checkFirstStart()
}

// noteRemoved makes durable that the member was removed, as others say: they talk
// to it no more, so it will hardly apply that. From then on checkFolder refuses its
// folder.
func (s *Server) noteRemoved() error {
	identity, _, err := s.storage.Log.Identity()
	if err != nil {
		return err
	}
	identity.Removed = true
	return s.storage.Log.SetIdentity(identity)
}

// enter has the member found a cluster or join one, and makes durable who it is.
// identity is what its folder says of an attempt before, or zero. The peers are for
// raft.StartNode; there are none unless the cluster is founded.
//
// A member that joins draws a number before, and the membership has it from then on:
// it asks again after a crash, and one that has lost its folder does not know it.
func (s *Server) enter(ctx context.Context, identity storage.Identity) (peers []raft.Peer, known storage.Membership, err error) {
	again := identity.ClusterID != 0 // it was about to, and died
	switch {
	case s.cfg.Join != "":
		if !again && identity.ID != s.cfg.ID {
			identity = storage.Identity{ID: s.cfg.ID, Joining: randomUint64()}
			if err := s.storage.Log.SetIdentity(identity); err != nil {
				return nil, known, err
			}
		}
		known, err = s.join(ctx, identity.Joining)
	case again:
		peers, err = s.found(identity.Founding)
	default:
		identity = storage.Identity{ID: s.cfg.ID}
		if identity.Founding, err = s.askFounders(ctx); err == nil {
			peers, err = s.found(identity.Founding)
		}
	}
	if err != nil {
		return nil, known, err
	}
	if again && identity.ClusterID != s.clusterID {
		return nil, known, fmt.Errorf("--data-dir: %s belongs to cluster %x, not %x", s.cfg.DataDir, identity.ClusterID, s.clusterID)
	}
	identity.ClusterID = s.clusterID
	return peers, known, s.storage.Log.SetIdentity(identity)
}

// found founds the cluster, with the others.
func (s *Server) found(founding uint64) ([]raft.Peer, error) {
	s.clusterID = foundingID(s.cfg.Bootstrap, founding)
	return foundingPeers(s.cfg.Bootstrap)
}

// join asks the cluster to take this member in. Asking again, after a crash
// before anything was received, does no harm.
func (s *Server) join(ctx context.Context, number uint64) (storage.Membership, error) {
	ctx, cancel := context.WithTimeout(ctx, joinTime)
	defer cancel()
	c, err := client.New(s.cfg.Join)
	if err != nil {
		return storage.Membership{}, err
	}
	defer c.Close()
	s.log.Info("joining", zap.String("through", s.cfg.Join))
	cluster, err := c.AddMember(ctx, storage.Member{ID: s.cfg.ID, PeerURL: s.cfg.PeerURL, ClientURL: s.cfg.ClientURL, Joining: number})
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
