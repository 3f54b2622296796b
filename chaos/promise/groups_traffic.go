package promise

import (
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/faultpoint"
)

// groupTraffic sends what the groups of a member send at a tick.
func (m *member) groupTraffic(now time.Duration) {
	ticks := int(now / tick)
	if !m.s.hasGroups() || m.ending.Load() || ticks%m.s.plan.heartbeatTicks() != 0 {
		return
	}
	before := m.groupLanes()
	for _, r := range m.replicas() {
		var all []*sentTo
		for _, w := range m.s.inGroup(r.group, m.id) {
			if w.from != m.id || !m.s.isPeer(w) || r.ending.Load() {
				continue
			}
			all = append(all, r.write(w, raftpb.MsgHeartbeat, 0))
			if now < m.s.plan.Length+groupLoadGoing {
				all = append(all, r.load(w, ticks)...)
			}
		}
		r.give(all, before)
	}
}

// load returns what goes beside a heartbeat.
func (r *replica) load(w *way, ticks int) (all []*sentTo) {
	l, n := r.plan.Load, r.s.plan.heartbeatTicks()
	ticks /= n
	if ticks%7 == int(r.group)%7 {
		all = append(all, r.write(w, raftpb.MsgReadIndexResp, 0))
	}
	for range due(l.Appends*n, ticks) {
		all = append(all, r.write(w, raftpb.MsgApp, l.Size))
	}
	for range due(l.Proposals*n, ticks) {
		all = append(all, r.write(w, raftpb.MsgProp, l.Size))
	}
	return all
}

// write makes a message.
func (r *replica) write(w *way, typ raftpb.MessageType, size int) *sentTo {
	b := r.s.book
	b.mu.Lock()
	defer b.mu.Unlock()
	msg, _ := b.write(w, typ, size, r.s.now(), r.life)
	return &sentTo{msg, w, kindOf(typ), int(numberOf(msg))}
}

// give sends messages, and notes which streams have taken them, which were in this state before.
func (r *replica) give(all []*sentTo, before map[uint64]lanes) {
	if len(all) == 0 || r.ending.Load() || r.m.ending.Load() {
		return
	}
	msgs := make([]*raftpb.Message, len(all))
	for i, x := range all {
		msgs[i] = x.m
	}
	r.send(msgs)
	after := r.m.groupLanes()
	b := r.s.book
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, x := range all {
		l := before[x.w.to]
		up := l.message
		if x.k == appends {
			up = l.msgapp
		}
		if up && l == after[x.w.to] {
			x.w.msgs[x.k][x.n].lane = x.w.epoch<<48 | l.state
		}
	}
}

// groupLanes returns the states of the streams to the nodes.
func (m *member) groupLanes() map[uint64]lanes {
	states := map[uint64]lanes{}
	st := m.Status().Groups
	if st == nil {
		return states
	}
	for _, p := range st.Nodes {
		var l lanes
		l.state, l.message, l.msgapp = laneState(p)
		states[uint64(p.ID)] = l
	}
	return states
}

// groupReceiver is the GroupReceiver of a member.
type groupReceiver struct{ m *member }

// receiver returns the GroupReceiver of a member, or nil.
func (m *member) receiver() rafthttp.GroupReceiver {
	if !m.opt.Receiver {
		return nil
	}
	m.s.count("groups: receivers")
	return groupReceiver{m}
}

// ReceiveGroups implements rafthttp.GroupReceiver.
func (g groupReceiver) ReceiveGroups(node types.ID, msgs []rafthttp.GroupMessage) {
	defer g.m.enter("ReceiveGroups")()
	s := g.m.s
	for _, one := range msgs {
		r := s.replica(one.Group, g.m.id)
		if r == nil { // it is of a group that is not here, or no longer
			g.unknown(one)
			continue
		}
		<-r.ready
		if one.Message.GetTo() != r.id && s.now()-r.since <= s.joinedLately() { // of one that was not here when it was read
			g.unknown(one)
			continue
		}
		w := s.groupAddressed(r, one.Message)
		if w == nil {
			continue
		}
		if w.from != uint64(node) {
			s.violate("addressee", "member %d receives a message of group %d from node %d, which is of %d: %v", g.m.id, one.Group, node, w.from, one.Message)
		}
		s.count("groups: messages of receivers")
		if one.Message.GetType() == raftpb.MsgSnap || s.cfg.sabotage != "" && g.m.sabotage(r.life, w, one.Message) {
			continue
		}
		r.take(w, one.Message)
	}
}

// joinedLately is how long after a group was joined a GroupReceiver may get a message that was read before.
func (s *simulation) joinedLately() time.Duration {
	if !s.inTime() {
		return faultpoint.MaxSleep / faultpoint.OftenShorter
	}
	return 0
}

// unknown takes in a message of a group that is not here.
func (g groupReceiver) unknown(one rafthttp.GroupMessage) {
	s := g.m.s
	w := s.book.wayOf(one.Group, memberOf(one.Message.GetFrom()), g.m.id)
	if w == nil || w.group == 0 {
		s.violate("invented", "member %d receives a message of group %d that was not sent: %v", g.m.id, one.Group, one.Message)
		return
	}
	if one.Message.GetType() != raftpb.MsgSnap && !s.isGhost(one.Message.GetTo()) {
		s.arrived(0, w, one.Message)
	}
	s.count("groups: messages of unknown groups")
}

// GroupsUnreachable implements rafthttp.GroupReceiver.
func (g groupReceiver) GroupsUnreachable(node types.ID, groups []uint64) {
	defer g.m.enter("GroupsUnreachable")()
	if len(groups) > mostUnreachable {
		g.m.s.violate("bounds", "member %d is told of %d groups at a time", g.m.id, len(groups))
	}
	for _, n := range groups {
		if r := g.m.s.replica(n, g.m.id); r != nil {
			if uint64(node) == nobody {
				r.noteMoved()
				continue
			}
			b := g.m.s.book
			b.mu.Lock()
			id, ofGhost := b.wayOf(n, g.m.id, uint64(node)).toID, false
			for _, ghost := range g.m.s.ghosts { // the replica is not named
				if ghost.of == r && ghost.w.to == uint64(node) {
					ghost.reported, ofGhost = b.seq+1, true
				}
			}
			b.mu.Unlock()
			r.noteReport(id, ofGhost)
		}
	}
}

// noteMoved notes a report about replicas that were on a node that does not run when it was made.
func (r *replica) noteMoved() {
	b := r.s.book
	var ids []uint64
	b.mu.Lock()
	for _, w := range r.s.inGroup(r.group, r.m.id) {
		if w.from == r.m.id && w.moved {
			ids = append(ids, w.toID)
		}
	}
	b.mu.Unlock()
	for _, id := range ids {
		r.noteReport(id, true)
	}
}

// mostUnreachable is of how many groups a GroupReceiver is told at a time.
const mostUnreachable = 1024
