package promise

import (
	"fmt"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"
)

// doToGroup has an event of a group happen.
func (s *simulation) doToGroup(e Event) {
	r, w := s.replica(e.Group, e.A), s.book.wayOf(e.Group, e.A, e.B)
	if r == nil {
		return
	}
	switch e.Do {
	case GroupBlock:
		s.blockGroup(r, e)
	case GroupStop:
		s.stopGroup(r, e)
	case GroupLeave:
		s.leaveGroup(r, e)
	}
	if w == nil || !s.isPeer(w) {
		return
	}
	switch e.Do {
	case GroupRemove:
		if e.How == "busy" {
			s.removeBusy(r, w)
			return
		}
		s.removeReplica(r, w)
		s.until(e.For, "group remove", func() { s.addAgain(r, w) })
	case GroupMove:
		s.moveReplica(r, w)
	case GroupGhost:
		s.raiseGhost(r, w)
	case GroupBurst:
		s.burstOfGroup(r, w, e)
	case GroupSnapshot:
		r.sendSnapshot(w, max(2, e.N), e.How)
	case GroupPost:
		r.post(w)
	}
}

// addAgain adds a replica that was removed.
func (s *simulation) addAgain(r *replica, w *way) {
	if s.replica(w.group, w.from) == r && !s.isPeer(w) {
		s.addReplica(r, w)
	}
}

// removeBusy removes a replica while a message of it is processed, and adds it again at once.
func (s *simulation) removeBusy(r *replica, w *way) {
	back := s.book.back(w)
	r.slow.shut(time.Second)
	s.shockGroup(r.group, r.m.id, time.Second)
	some := func() {
		other := s.replica(w.group, w.to)
		if other == nil || !s.isPeer(back) {
			return
		}
		var all []*sentTo
		for range 5 {
			all = append(all, other.write(back, raftpb.MsgReadIndexResp, 0), other.write(back, raftpb.MsgApp, 10), other.write(back, raftpb.MsgProp, 10))
		}
		other.give(all, other.m.groupLanes())
	}
	some()
	s.at(s.now()+30*time.Millisecond+s.plan.Delay, "removal of a busy replica", func() {
		if s.replica(w.group, w.from) == r && s.isPeer(w) {
			s.removeReplica(r, w)
			s.addReplica(r, w)
			some()
		}
	})
}

// shockGroup notes that a group has a fault of its own at a member, which the others must not notice, for some time.
func (s *simulation) shockGroup(group, member uint64, d time.Duration) {
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	for _, w := range s.inGroup(group, member) {
		w.heal(s.now(), s.now()+d)
		w.crowd = max(w.crowd, s.now()+d+lateReport)
	}
}

// blockGroup has Process of a group stand still.
func (s *simulation) blockGroup(r *replica, e Event) {
	s.excuseGroup(r.group, r.m.id)
	if e.How == "slow" {
		r.slow.shut(e.For)
	}
	if e.How == "slow" || e.How == kindNames[control] {
		s.shockGroup(r.group, r.m.id, e.For+readTime)
	} else { // its control messages do not wait
		for _, w := range s.inGroup(r.group, r.m.id) {
			s.crowded(w, e.For+readTime+lateReport)
		}
	}
	for k, name := range kindNames {
		if name == e.How {
			r.process[k].shut(e.For)
		}
	}
	for _, w := range s.around(r.m.id) { // what waits for Process takes MaxQueuedBytes from all
		if s.isTight(w) {
			s.crowded(w, e.For+3*readTime)
		}
	}
}

// isTight reports whether one of two members has so little room that a group, or the members themselves, may find none.
func (s *simulation) isTight(w *way) bool {
	for _, id := range []uint64{w.from, w.to} {
		if m := s.member(id); m != nil && (m.opt.MaxQueuedBytes > 0 || m.opt.SendQueue > 0 || m.opt.ReceiveQueue > 0 || m.opt.MaxMessageBytes > 0) {
			return true
		}
	}
	return false
}

// stopGroup stops a replica, and joins the group again.
func (s *simulation) stopGroup(r *replica, e Event) {
	if e.How == "busy" {
		r.slow.shut(time.Second)
		s.shockGroup(r.group, r.m.id, time.Second)
		s.at(s.now()+300*time.Millisecond, "stop of a busy group", func() {
			if s.replica(r.group, r.m.id) == r {
				s.stopGroup(r, Event{Do: e.Do, For: e.For})
			}
		})
		return
	}
	s.fellGroup(r)
	s.until(e.For, "group stop", func() { s.riseGroup(r) })
}

// fellGroup stops a replica, on another goroutine.
func (s *simulation) fellGroup(r *replica) {
	s.forgetReplica(r)
	s.excuseGroup(r.group, r.m.id)
	s.waiting.Go(r.end)
}

// forgetReplica notes that a replica does not run any more.
func (s *simulation) forgetReplica(r *replica) {
	r.ending.Store(true)
	b := s.book
	b.mu.Lock()
	defer b.mu.Unlock()
	if r.now != r {
		return
	}
	r.now, r.ended, r.dropped = nil, s.now(), 0
	for _, w := range s.inGroup(r.group, r.m.id) {
		w.unwell(s.now(), 0)
		if w.from == r.m.id {
			w.isPeer = false
		}
	}
}

// riseGroup joins a group again, once the last replica has ended: as another replica if the group has ids of its own.
func (s *simulation) riseGroup(last *replica) {
	m := last.m
	switch {
	case s.member(m.id) != m || s.replica(last.group, m.id) != nil:
		return // it was, or will be, when the member lives again
	case !last.isOver():
		s.at(s.now()+tick, "later", func() { s.riseGroup(last) })
		return
	}
	s.renew(last.seat)
	s.joinGroup(m, last.seat)
	s.count("groups: joined again")
}

// renew has the next replica of a seat be another one, of which all others are told.
func (s *simulation) renew(st *seat) {
	if !st.plan.Own {
		return
	}
	b := s.book
	b.mu.Lock()
	if _, known := st.removed[st.id]; !known {
		st.removed[st.id] = 0 // nobody is told
	}
	st.id = st.nextID()
	b.mu.Unlock()
	for _, w := range s.inGroup(st.group, st.member) {
		r := s.replica(w.group, w.from)
		if w.to == st.member && r != nil && !r.ending.Load() {
			if s.isPeer(w) {
				s.removeReplica(r, w)
			}
			s.addReplica(r, w)
		}
	}
}

func (r *replica) isOver() bool {
	select {
	case <-r.over:
		return true
	default:
		return false
	}
}

// leaveGroup has all others remove a replica, which is told so, stops, and joins as another one.
func (s *simulation) leaveGroup(r *replica, _ Event) {
	if !r.plan.Own {
		return
	}
	b := s.book
	b.mu.Lock()
	r.removed[r.id] = max(1, s.now())
	b.mu.Unlock()
	s.shockGroup(r.group, r.m.id, leaveTime)
	for _, w := range s.inGroup(r.group, r.m.id) {
		if w.to == r.m.id && s.isPeer(w) {
			s.removeReplica(s.replica(w.group, w.from), w)
		}
	}
	s.at(s.now()+leaveTime, "end of group leave", func() {
		if s.replica(r.group, r.m.id) != r {
			return
		}
		r.lookAtErrors()
		s.count(ofGroups + "checked removed")
		if !r.told && s.mayTell(r) && s.inTime() {
			s.violate("removed", "replica %d of group %d, member %d, was removed %v ago, and has not been told", r.id, r.group, r.m.id, leaveTime)
		}
		s.fellGroup(r)
		s.riseGroup(r)
	})
}

// mayTell reports whether another replica could tell one that it was removed.
func (s *simulation) mayTell(r *replica) bool {
	for _, w := range s.inGroup(r.group, r.m.id) {
		if w.from != r.m.id || !s.isPeer(w) {
			continue
		}
		other := s.replica(r.group, w.to)
		s.book.mu.Lock()
		well := w.link.well(s.now()-leaveTime) && s.book.back(w.link).well(s.now()-leaveTime)
		s.book.mu.Unlock()
		if mute := s.noDial(w.from, w.to) != nil || other != nil && other.m.noStreams(); mute && !s.verifies(r.m.id) {
			continue // it can say so by POST only, and that is not believed
		}
		if other != nil && well && !other.m.opt.Receiver && other.slow.left() == 0 && other.process[control].left() == 0 && s.now()-other.since > leaveTime {
			return true
		}
	}
	return false
}

// ghost is a replica that there never was, to which another one sends.
type ghost struct {
	w        *way
	id       uint64
	of       *replica
	lastSent uint64        // seq
	lastAt   time.Duration // of the run
	reported uint64        // seq of the last report; guarded by the book's mutex
	adopted  bool          // its messages are given to a GroupReceiver, since nobody has the group there; guarded by the book's mutex
}

// raiseGhost has a replica send some heartbeats to one that the other node does not have.
func (s *simulation) raiseGhost(r *replica, w *way) {
	id := w.to + ghosts
	if r.plan.Own {
		id = r.group*idsOfGroup + w.to*idsOfSeat + ghosts + uint64(len(s.ghosts))
	}
	g := &ghost{w: w, id: id, of: r}
	s.book.mu.Lock()
	if s.ghosts[id] != nil {
		s.book.mu.Unlock()
		return
	}
	s.ghosts[id] = g
	s.book.mu.Unlock()
	r.AddReplica(id, types.ID(w.to), []string{s.url(w.to)})
	for i := range 3 {
		s.at(s.now()+time.Duration(i)*time.Second, "ghost", func() { s.haunt(g) })
	}
	s.at(s.now()+2*time.Second+s.reportBound(), "end of a ghost", func() { s.lay(g) })
}

// haunt sends a heartbeat to a ghost.
func (s *simulation) haunt(g *ghost) {
	if g.of.ending.Load() || g.of.m.ending.Load() {
		return
	}
	to := s.member(g.w.to)
	s.book.mu.Lock()
	s.book.seq++
	g.lastSent, g.lastAt = s.book.seq, s.now()
	if to != nil && to.opt.Receiver && s.seat(g.w.group, g.w.to).now == nil {
		g.adopted = true
	}
	s.book.mu.Unlock()
	g.of.send([]*raftpb.Message{{Type: raftpb.MsgHeartbeat.Enum(), From: new(g.of.id), To: new(g.id), Term: new(uint64(1))}})
}

// lay looks whether a replica was told of its messages to a ghost.
func (s *simulation) lay(g *ghost) {
	b := s.book
	b.mu.Lock()
	due := g.w.link.well(g.lastAt) && g.of.now == g.of && !g.adopted
	told := g.reported > g.lastSent
	delete(s.ghosts, g.id)
	b.mu.Unlock()
	if g.of.ending.Load() || s.failed() {
		return
	}
	g.of.RemovePeer(types.ID(g.id))
	if !due {
		return
	}
	s.count("groups: ghosts")
	if !told {
		s.violate("reported", "group %d, member %d has sent to replica %d, which member %d does not have, and was not told that it is unreachable",
			g.of.group, g.of.m.id, g.id, g.w.to)
	}
}

// burstOfGroup has a group send much at once.
func (s *simulation) burstOfGroup(r *replica, w *way, e Event) {
	s.crowded(w, 3*readTime)
	if s.isTight(w) || s.plan.Rate > 0 {
		for _, x := range append(s.onLink(e.A, e.B), s.around(e.A)...) {
			s.crowded(x, 3*readTime)
		}
		for _, x := range s.around(e.B) {
			s.crowded(x, 3*readTime)
		}
	}
	if to := s.member(w.to); to != nil && to.opt.MaxMessageBytes > 0 && int64(e.Size) > to.opt.MaxMessageBytes/2 {
		return
	}
	s.fill(w.link, e.N*e.Size)
	types := map[string]raftpb.MessageType{kindNames[appends]: raftpb.MsgApp, kindNames[proposals]: raftpb.MsgProp}
	before := r.m.groupLanes()
	var all []*sentTo
	for range e.N {
		all = append(all, r.write(w, types[e.How], e.Size))
	}
	r.give(all, before)
	s.lookAtStatus(r.m) // while the queues are full
}

// excuseGroup notes that snapshots of a group to a member need not arrive.
func (s *simulation) excuseGroup(group, member uint64) {
	for _, t := range s.transfers {
		if t.w.group == group && (t.w.to == member || t.w.from == member) {
			t.due = 0
		}
	}
}

// describe returns a line about each group of a member.
func (r *replica) describe() string {
	return fmt.Sprintf("member %d, group %d: %+v", r.m.id, r.group, r.Status())
}

// moveReplica moves another replica to a node that does not run, and back: what was sent to it lately arrives, or is reported.
func (s *simulation) moveReplica(r *replica, w *way) {
	b := s.book
	b.mu.Lock()
	back, id := b.back(w), w.toID
	if w.isPeer = false; !b.isServed(back) { // its node ends, with the streams of all groups
		s.serve(back)
	}
	w.isPeer, w.moved = true, true
	w.epoch++
	w.lead()
	w.heal(s.now(), s.now()+s.recovers(w.link)+joinTime)
	b.mu.Unlock()
	s.count("groups: moved")
	r.AddReplica(id, types.ID(nobody), []string{s.url(nobody)})
	r.AddReplica(id, types.ID(w.to), []string{s.url(w.to)})
}
