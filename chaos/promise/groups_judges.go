package promise

import (
	"bytes"
	"slices"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/faultpoint"
)

// groupAddressed looks at whom a message of a group is for, and returns the way that it came; nil: it is nobody's business further.
func (s *simulation) groupAddressed(r *replica, msg *raftpb.Message) *way {
	s.checked("addressee")
	s.count(ofGroups + "checked addressee")
	if msg.GetType() == raftpb.MsgForgetLeader || raft.IsLocalMsgTarget(msg.GetFrom()) || msg.GetTo() != r.id {
		s.violate("addressee", "group %d, replica %d, member %d processes a message that is not for it: %v", r.group, r.id, r.m.id, msg)
		return nil
	}
	w := s.book.wayOf(r.group, memberOf(msg.GetFrom()), r.m.id)
	if w == nil {
		s.violate("invented", "group %d, member %d processes a message of %d: %v", r.group, r.m.id, msg.GetFrom(), msg)
		return nil
	}
	s.book.mu.Lock()
	from := s.seat(w.group, w.from)
	at := from.removed[msg.GetFrom()]
	s.book.mu.Unlock()
	if at > 0 && s.now()-at > s.takenTime() && !r.m.opt.Receiver {
		s.violate("addressee", "group %d, member %d processes a message of replica %d, which was removed %v ago: %v", r.group, r.m.id, msg.GetFrom(), s.now()-at, msg)
	}
	return w
}

// takenTime is how long after the removal of a replica a worker may give a message of it to Process that it had taken before.
func (s *simulation) takenTime() time.Duration {
	if !s.inTime() {
		return time.Second + 2*faultpoint.MaxSleep/faultpoint.OftenShorter
	}
	return time.Second
}

// groupFailed notes a message for which Process has returned an error.
func (s *simulation) groupFailed(w *way, msg *raftpb.Message) {
	b, k, n := s.book, kindOf(msg.GetType()), numberOf(msg)
	b.mu.Lock()
	defer b.mu.Unlock()
	if msg.GetType() != raftpb.MsgSnap && n > 0 && n < uint64(len(w.msgs[k])) {
		w.msgs[k][n].failed = true
	}
}

// isGhost reports whether an id is that of a ghost, now or before.
func (s *simulation) isGhost(id uint64) bool { return id%idsOfSeat >= ghosts }

// mustKnowNothing reports whether a group has no reason to be told of a loss. It is called with the book's mutex held.
func (s *simulation) mustKnowNothing(w *way) bool {
	now := s.now()
	to := s.seat(w.group, w.to)
	return s.inTime() && w.isPeer && w.well(now-lateReport) && w.wellAt > 0 && now > w.crowd && now > w.link.crowd && now > w.link.flaps && to.now != nil &&
		to.now.id == w.toID && s.book.isServed(w) && !s.isTight(w.link) && s.noDial(w.from, w.to) == nil && s.noDial(w.to, w.from) == nil
}

// isServed reports whether the receiver has a replica of any group at the sender: without, it ends the streams between them. It is called with the
// book's mutex held.
func (b *book) isServed(w *way) bool {
	return slices.ContainsFunc(b.inGroups, func(back *way) bool { return back.isPeer && back.from == w.to && back.to == w.from })
}

// lookAtGroups is what judges do about groups at each tick.
func (s *simulation) lookAtGroups(now time.Duration) {
	if !s.hasGroups() {
		return
	}
	for _, w := range s.book.inGroups {
		s.lookAtMessages(w, now)
		s.lookAtGroupHealth(w, now)
	}
	for _, m := range s.running() {
		for _, r := range m.replicas() {
			r.lookAtStatus(now)
			r.lookAtErrors()
			r.lookAtActive(now)
		}
	}
}

// lookAtStatus looks at what a replica says that it has dropped.
func (r *replica) lookAtStatus(now time.Duration) {
	st, s := r.Status(), r.s
	b := s.book
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := int(st.Dropped - r.seen); n > 0 {
		r.dropped += n
		r.dropAt = now
		s.countN("groups: messages dropped by the receiver", n)
	}
	r.seen = st.Dropped
	if st.Refused > 0 {
		s.count("groups: refused")
	}
}

// lookAtErrors looks at ErrorC.
func (r *replica) lookAtErrors() {
	s := r.s
	if s.sabotaged("removed") {
		r.errorC <- rafthttp.ErrMemberRemoved
	}
	select {
	case err := <-r.errorC:
		s.checked("removed")
		s.count("groups: told of their removal")
		s.book.mu.Lock()
		at := r.removed[r.id]
		s.book.mu.Unlock()
		if at == 0 {
			s.violate("removed", "replica %d of group %d, member %d is told %v, and was not removed", r.id, r.group, r.m.id, err)
		}
		r.told = true
	default:
	}
}

// lookAtActive looks whether a replica is inactive whose node is silent.
func (r *replica) lookAtActive(now time.Duration) {
	s := r.s
	if !s.inTime() || time.Since(r.m.born) < 2*readTime {
		return
	}
	for _, w := range s.inGroup(r.group, r.m.id) {
		if w.to != r.m.id {
			continue
		}
		s.book.mu.Lock()
		took := w.link.tookAt
		for _, x := range s.onLink(w.from, w.to) {
			took = max(took, x.tookAt)
		}
		silent, id := now-max(w.link.cutAt, took), s.book.back(w).toID
		cut := w.link.cuts > 0
		s.book.mu.Unlock()
		if !cut || silent < 2*readTime+tick+4*s.plan.Delay {
			continue
		}
		s.checkedOf(w, "noticed")
		if !r.ActiveSince(types.ID(id)).IsZero() || s.sabotaged("noticed") {
			s.violate("noticed", "group %d, member %d takes %d for active, of which nothing has come for %v", r.group, r.m.id, w.from, silent)
		}
	}
}

// lookAtGroupHealth looks whether a group delivers whose link is well, and that has no fault of its own, whatever other groups do.
func (s *simulation) lookAtGroupHealth(w *way, now time.Duration) {
	if !s.inTime() {
		return
	}
	b := s.book
	b.mu.Lock()
	defer b.mu.Unlock()
	from, to := s.seat(w.group, w.from).now, s.seat(w.group, w.to).now
	if !w.isPeer || w.link.faults > 0 || w.link.closed || from == nil || to == nil || to.id != w.toID || s.chokes(w.link) || !s.hasPlaces(w) {
		w.checked, w.unexplained = now, 0
		return
	}
	late := s.late(w.link)
	wellAt := max(w.wellAt, w.link.wellAt)
	if since := now - window - late; since >= max(wellAt, w.checked) {
		w.checked = since + time.Second
		if !b.isServed(w) {
			w.unwell(now, 0)
			return
		}
		s.checkedOf(w, "isolation")
		roomy := s.plan.Rate == 0 && max(w.crowd, w.link.crowd) < since && !s.isTight(w.link) && !s.byPosts(w.link)
		for k := range kinds {
			got, all := w.arrivals(k, since, since+window)
			percent := 99
			if s.plan.Revokes { // a recheck may cut a connection that had a former certificate, with all that one tick has sent
				percent = 90
			}
			if (k == control || roomy) && all > 0 && got*100 < all*percent || s.sabotaged("isolation") {
				s.violate("isolation", "%d of %d %v messages of group %d from %d to %d have arrived, which were sent %v to %v ago",
					got, all, k, w.group, w.from, w.to, now-since, now-since-window)
			}
		}
	}
	if w.unexplained > 0 {
		s.violate("isolation", "group %d, member %d is told that %d is unreachable, but the link is well since %v", w.group, w.from, w.to, now-wellAt)
	}
}

// hasPlaces reports whether the queues of a way have places for what all groups send at once.
func (s *simulation) hasPlaces(w *way) bool {
	enough := 4 * len(s.plan.Groups)
	from, to := s.member(w.from), s.member(w.to)
	return from != nil && to != nil && (from.opt.SendQueue == 0 || from.opt.SendQueue >= enough) && (to.opt.ReceiveQueue == 0 || to.opt.ReceiveQueue >= enough)
}

// installedInGroup is Process of the message of a snapshot.
func (s *simulation) installedInGroup(r *replica, w *way, msg *raftpb.Message) error {
	index := msg.GetSnapshot().GetMetadata().GetIndex()
	t := s.transferOf(w.group, index)
	if t == nil {
		return nil // it was posted, without a database
	}
	db := r.disk.use(index)
	s.checkedOf(w, "snapshot bytes")
	if !bytes.Equal(db, s.book.content(w.key(index), t.size)) {
		s.violate("snapshot bytes", "group %d, member %d processes snapshot %d of %d, and its database has %d bytes of %d, or others", r.group, r.m.id, index, w.from, len(db), t.size)
	}
	s.count("groups: snapshots processed")
	if r.plan.Saver == "plain" {
		s.count("groups: snapshots of plain savers")
	}
	s.tookAll(w.group, index)
	return nil
}

// transferOf returns the last transfer of an index in a group, or nil.
func (s *simulation) transferOf(group, index uint64) *transfer {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range slices.Backward(s.transfers) {
		if t.index == index && t.w.group == group {
			return t
		}
	}
	return nil
}

// tookAll notes that the message of a snapshot was processed.
func (s *simulation) tookAll(group, index uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.transfers {
		t.taken = t.taken || (t.index == index && t.w.group == group)
	}
}

// endGroups looks at the replicas of a member that has stopped.
func (s *simulation) endGroups(all []*replica) {
	for _, r := range all {
		r.afterStop()
		close(r.over)
	}
}
