package groups

import (
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
)

// control does what the controller of a server does: it ends removed replicas, and changes the members of groups until they
// live on the nodes where they should.
func (s *simulation) control() {
	for _, n := range s.running() {
		for _, r := range n.all() {
			if s.mustEnd(r) {
				s.part(n, r)
			}
		}
	}
	for id := range uint64(groups) {
		s.reconcile(s.groups[id+1])
	}
}

// mustEnd reports whether a replica has heard that it was removed, or cannot hear it.
func (s *simulation) mustEnd(r *replica) bool {
	select {
	case err := <-r.errorC:
		if err != rafthttp.ErrMemberRemoved || !r.group.wasRemoved(r.id) { //nolint:errorlint // this very error
			s.violated("removed", "replica %d is told %v, and is a member", r.id, err)
		}
		s.report.Told++
		return true
	default:
	}
	v := r.view()
	if v.gone {
		return true
	}
	if !r.group.wasRemoved(r.id) {
		return false
	}
	members := r.group.members()
	knows := slices.ContainsFunc(v.voters, func(id uint64) bool { return slices.Contains(members, id) })
	return !knows // it is on its own: nobody can tell it
}

// idle reports whether a group lives where it should.
func (s *simulation) idle(g *group) bool {
	members := g.members()
	if len(members) != len(g.nodes) || g.pending != 0 {
		return false
	}
	return !slices.ContainsFunc(members, func(id uint64) bool { return !g.nodes[nodeOf(id)] || g.dead[id] })
}

// reconcile takes the next step of a group to where it should live.
func (s *simulation) reconcile(g *group) {
	members := g.members()
	if slices.Contains(members, g.pending) || g.dead[g.pending] {
		g.pending = 0
	}
	if g.pending != 0 {
		if r := s.replicaOf(g.id, nodeOf(g.pending)); r != nil {
			r.do(func() { r.meet(members) })
		}
	}
	if s.idle(g) || time.Since(g.changed) < time.Second {
		return
	}
	dead := slices.IndexFunc(members, func(id uint64) bool { return g.dead[id] })
	missing := slices.IndexFunc(sorted(g.nodes), func(on uint64) bool {
		return !slices.ContainsFunc(members, func(id uint64) bool { return nodeOf(id) == on && !g.dead[id] })
	})
	extra := slices.IndexFunc(members, func(id uint64) bool { return !g.nodes[nodeOf(id)] })
	if g.pending == 0 && missing >= 0 { // also while the group has a member there whose log is lost, and sends it messages
		if n := s.nodes[sorted(g.nodes)[missing]]; n != nil && s.disks[n.id][g.id] == nil {
			s.join(g, n)
		}
	}
	switch {
	case dead >= 0:
		s.change(g, raftpb.ConfChangeRemoveNode, members[dead])
	case g.pending != 0:
		s.change(g, raftpb.ConfChangeAddNode, g.pending)
	case missing >= 0: // its node is down, or a removed replica has not ended there
	case extra >= 0:
		s.change(g, raftpb.ConfChangeRemoveNode, members[extra])
	}
}

// change proposes a change of the members to the leader of a group.
func (s *simulation) change(g *group, what raftpb.ConfChangeType, id uint64) {
	r := s.leader(g)
	if r == nil {
		return
	}
	g.changed = time.Now()
	r.do(func() {
		if r.raft.BasicStatus().RaftState == raft.StateLeader {
			_ = r.raft.ProposeConfChange(&raftpb.ConfChange{Type: what.Enum(), NodeId: new(id)})
		}
	})
}

// settle waits until all groups have recovered.
func (s *simulation) settle() {
	s.t.Helper()
	began := time.Now()
	markers := map[uint64][]uint64{}
	var last time.Time
	for {
		s.control()
		again := time.Since(last) >= time.Second
		if again {
			last = time.Now()
		}
		var waiting *group
		for id := range uint64(groups) {
			g := s.groups[id+1]
			if s.settled(g, markers[g.id]) {
				continue
			}
			waiting = g
			if r := s.leader(g); again && r != nil && s.idle(g) {
				markers[g.id] = append(markers[g.id], s.propose(r, 0))
			}
		}
		if waiting == nil {
			s.report.Recovered = max(s.report.Recovered, time.Since(began))
			return
		}
		if time.Since(began) > recoverTime {
			s.violated("recovery", "group %d has not recovered within %v: %s", waiting.id, recoverTime, s.describe(waiting))
		}
		time.Sleep(tick)
		s.check()
	}
}

// settled reports whether all members of a group have applied one of the proposals, and removed replicas have ended.
func (s *simulation) settled(g *group, proposals []uint64) bool {
	if !s.idle(g) {
		return false
	}
	var index uint64
	for _, n := range proposals {
		if at := g.indexOf(n); at > 0 && (index == 0 || at < index) {
			index = at
		}
	}
	if index == 0 {
		return false
	}
	members := g.members()
	for _, id := range members {
		r := s.replicaOf(g.id, nodeOf(id))
		if r == nil || r.id != id || r.view().applied < index {
			return false
		}
	}
	for _, n := range s.running() {
		if r := s.replicaOf(g.id, n.id); r != nil && !slices.Contains(members, r.id) {
			return false
		}
	}
	return true
}
