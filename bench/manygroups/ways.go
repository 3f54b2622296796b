package manygroups

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
)

// Way is how a node carries the messages of its groups.
type Way string

// The ways.
const (
	// Calls carries nothing: a node makes the same messages and the same calls of Process as the others.
	Calls Way = "calls only"
	// Groups is one Transport with Transport.Group for each group.
	Groups Way = "Transport.Group"
	// Batches is the same with a GroupReceiver, which processes what it gets at once.
	Batches Way = "GroupReceiver"
	// PerGroup is a Transport for each group, all behind a Mux.
	PerGroup Way = "Mux"
	// Bare is a TCP connection to each node and nothing else: what the others take beside it is for what they promise.
	Bare Way = "bare TCP"
)

// maxPerGroup is for how many groups PerGroup is measured: more need more descriptors than a process may have.
const maxPerGroup = 300

// carrier carries the messages of the groups of a node.
type carrier interface {
	// send sends messages of a group, counted from 0.
	send(group int, ms []*raftpb.Message)
	// up reports whether all streams are up.
	up() bool
	stop()
}

// newCarrier starts what carries the messages of n.
func newCarrier(n *node, ln net.Listener) (carrier, error) {
	switch n.cfg.Way {
	case Calls:
		return calls{}, ln.Close()
	case Bare:
		return startBare(n, ln)
	case Groups, Batches:
		return startGroups(n, ln)
	case PerGroup:
		return startTransports(n, ln)
	}
	return nil, fmt.Errorf("there is no way %q", n.cfg.Way)
}

// calls drops messages.
type calls struct{}

func (calls) send(int, []*raftpb.Message) {}
func (calls) up() bool                    { return true }
func (calls) stop()                       {}

const clusterID = 0x1000

// sharing has one Transport for all groups.
type sharing struct {
	t      *rafthttp.Transport
	server *http.Server
	groups []*rafthttp.Group
}

func startGroups(n *node, ln net.Listener) (carrier, error) {
	t := &rafthttp.Transport{ID: types.ID(n.cfg.ID), ClusterID: clusterID, Raft: rafthttp.NoRaft{}}
	if n.cfg.Way == Batches {
		t.GroupReceiver = scheduler{n}
	}
	if err := t.Start(); err != nil {
		return nil, err
	}
	s := &sharing{t: t, server: rafthttp.NewServer(t.Handler()), groups: make([]*rafthttp.Group, len(n.rafts))}
	go func() { _ = s.server.Serve(ln) }()
	for i := range n.rafts {
		g, err := t.Group(uint64(i+1), rafthttp.GroupConfig{Raft: &n.rafts[i]})
		if err != nil {
			s.stop()
			return nil, err
		}
		s.groups[i] = g
		for j, u := range n.cfg.URLs {
			if j+1 != n.cfg.ID {
				g.AddPeer(types.ID(j+1), []string{u})
			}
		}
	}
	return s, nil
}

func (s *sharing) send(group int, ms []*raftpb.Message) { s.groups[group].Send(ms) }

// scheduler processes the messages of all groups.
type scheduler struct{ node *node }

// ReceiveGroups implements rafthttp.GroupReceiver.
func (s scheduler) ReceiveGroups(_ types.ID, msgs []rafthttp.GroupMessage) {
	for _, m := range msgs {
		_ = s.node.rafts[m.Group-1].Process(context.Background(), m.Message)
	}
}

// GroupsUnreachable implements rafthttp.GroupReceiver.
func (s scheduler) GroupsUnreachable(_ types.ID, groups []uint64) {
	for _, g := range groups {
		s.node.rafts[g-1].ReportUnreachable(0)
	}
}

// up reports whether all nodes are active, and had time to dial both streams.
func (s *sharing) up() bool {
	since := s.groups[0].ActiveSince
	for id := types.ID(1); id <= nodes; id++ {
		if id != s.t.ID && (since(id).IsZero() || time.Since(since(id)) < time.Second) {
			return false
		}
	}
	return true
}

func (s *sharing) stop() {
	s.t.Stop()
	s.server.Close()
}

// separate has a Transport for each group.
type separate struct {
	transports []*rafthttp.Transport
	server     *http.Server
	peers      int
}

func startTransports(n *node, ln net.Listener) (carrier, error) {
	mux := new(rafthttp.Mux)
	s := &separate{server: rafthttp.NewServer(mux), peers: len(n.cfg.URLs) - 1}
	go func() { _ = s.server.Serve(ln) }()
	for i := range n.rafts {
		t := &rafthttp.Transport{ID: types.ID(n.cfg.ID), ClusterID: types.ID(clusterID + i), Raft: &n.rafts[i], MaxQueuedBytes: 64 << 20}
		if err := t.Start(); err != nil {
			return nil, err
		}
		if err := mux.Add(t); err != nil {
			return nil, err
		}
		for j, u := range n.cfg.URLs {
			t.AddPeer(types.ID(j+1), []string{u})
		}
		s.transports = append(s.transports, t)
	}
	return s, nil
}

func (s *separate) send(group int, ms []*raftpb.Message) { s.transports[group].Send(ms) }

func (s *separate) up() bool {
	for _, t := range s.transports {
		streams := 0
		for _, p := range t.Status().Peers {
			for _, st := range p.Streams {
				if st.Up {
					streams++
				}
			}
		}
		if streams != 4*s.peers {
			return false
		}
	}
	return true
}

func (s *separate) stop() {
	for _, t := range s.transports {
		t.Stop()
	}
	s.server.Close()
}
