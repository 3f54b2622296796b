package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/storage"
	"github.com/seed-4d73690b/rafthttp/metrics"
	"github.com/seed-4d73690b/rafthttp/peerid"
)

// newTransport returns the transport, which is not started yet.
func (s *Server) newTransport() (*rafthttp.Transport, error) {
	urls, err := types.NewURLs([]string{s.cfg.PeerURL})
	if err != nil {
		return nil, err
	}
	t := &rafthttp.Transport{
		Logger:      s.log.Named("transport"),
		ID:          types.ID(s.cfg.ID),
		URLs:        urls,
		Raft:        receiver{s},
		Snapshotter: s.snapshots,
		ErrorC:      make(chan error, 1),
		TLSInfo:     s.cfg.PeerTLS,
		TLSRecheck:  s.cfg.TLSRecheck,
		// A follower whose disk is full would be sent snapshots several times a second.
		SnapshotBackoff: time.Second,
	}
	if s.cfg.TrustDomain != "" && !s.cfg.PeerTLS.Empty() {
		if t.VerifyPeer, err = peerid.SPIFFE(s.cfg.TrustDomain); err != nil {
			return nil, fmt.Errorf("--peer-trust-domain: %w", err)
		}
	}
	return t, nil
}

// startTransport starts the connections to the other members that are known.
func (s *Server) startTransport(known storage.Membership) error {
	s.transport.ClusterID = types.ID(s.clusterID)
	s.metrics = prometheus.NewRegistry()
	s.metrics.MustRegister(metrics.New(s.transport, nil), // before Start, since it hooks into the transport
		s.readySeconds,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if err := s.transport.Start(); err != nil {
		return err
	}
	s.tellTransport(s.routed(known))
	return nil
}

// tellTransport makes the transport's peers those of a membership. Only a
// removal takes one away: a member that is catching up applies memberships that
// were true long ago.
func (s *Server) tellTransport(ms storage.Membership) {
	s.transport.SetConfState(s.storage.Data.ConfState()) // a learner that is down is no lost vote
	for id, m := range ms.Members {
		url, known := s.peers[id]
		switch {
		case id == s.cfg.ID || url == m.PeerURL:
			continue
		case known:
			s.transport.UpdatePeer(types.ID(id), []string{m.PeerURL})
		default:
			s.transport.AddPeer(types.ID(id), []string{m.PeerURL})
		}
		s.peers[id] = m.PeerURL
	}
	for id := range s.peers {
		if ms.Removed[id] {
			s.transport.RemovePeer(types.ID(id))
			delete(s.peers, id)
		}
	}
}

// routed returns a membership with the URLs at which this member reaches others.
func (s *Server) routed(ms storage.Membership) storage.Membership {
	for _, m := range ms.Members {
		if to := s.cfg.Routes[m.PeerURL]; to != "" {
			m.PeerURL = to
			ms = ms.With(m)
		}
	}
	return ms
}

// receiver is what the transport calls: rafthttp.Raft.
type receiver struct{ *Server }

// Process hands a message from another member to raft. A MsgSnap, whose database
// the transport has saved before, waits until raft may have it.
func (r receiver) Process(ctx context.Context, m *raftpb.Message) error {
	if r.IsIDRemoved(m.GetFrom()) {
		return rafthttp.ErrMemberRemoved // tells the sender, if that is the member; it then stops
	}
	if m.GetTo() != r.cfg.ID {
		return fmt.Errorf("message is for member %d, not %d", m.GetTo(), r.cfg.ID)
	}
	if m.GetType() == raftpb.MsgSnap {
		return r.stepSnapshot(ctx, m)
	}
	return r.node.Step(ctx, m)
}

// IsIDRemoved says whether the member was removed, as far as this member has
// applied the log.
func (r receiver) IsIDRemoved(id uint64) bool { return r.storage.Data.Membership().Removed[id] }

// ReportUnreachable makes a leader probe the follower before it sends more.
func (r receiver) ReportUnreachable(id uint64) { r.node.ReportUnreachable(id) }

// ReportSnapshot makes a leader go on with entries, or try a snapshot again.
func (r receiver) ReportSnapshot(id uint64, status raft.SnapshotStatus) {
	r.node.ReportSnapshot(id, status)
}

// transportError is what an error from the transport's ErrorC means for us.
func (s *Server) transportError(err error) error {
	if errors.Is(err, rafthttp.ErrMemberRemoved) {
		return errors.Join(ErrRemoved, s.noteRemoved())
	}
	return fmt.Errorf("transport: %w", err)
}
