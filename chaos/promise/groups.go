package promise

import (
	"fmt"
	"time"
)

// seat is the place of a group at a member. It outlives its replicas: it has their disk, and what hangs.
type seat struct {
	group, member uint64
	plan          Group
	disk          *disk
	process       [kinds]gate
	slow          gate

	// Guarded by the book's mutex.
	now     *replica                 // that runs; nil: none
	id      uint64                   // of that, or of the next one
	lives   int                      // ids that it had
	starts  int                      // replicas that it had
	removed map[uint64]time.Duration // former replicas that were removed from the group, and when
	dropped int                      // messages that the replica has counted as dropped, and that are not accounted for
	dropAt  time.Duration            // when it has said so last
	ended   time.Duration            // when the last replica ended
}

// foundGroups makes the groups of the plan.
func (s *simulation) foundGroups() {
	ids := s.ids()
	for i, g := range s.plan.Groups {
		n := uint64(i) + 1
		for _, id := range ids {
			st := &seat{group: n, member: id, plan: g, removed: map[uint64]time.Duration{}}
			st.disk = newDisk(s, fmt.Sprintf("%s-group%d", s.states[id].dir, n))
			st.id = st.nextID()
			s.seats[[2]uint64{n, id}] = st
		}
		for _, w := range s.book.all {
			if w.to != nobody {
				s.book.addGroup(n, w, s.seat(n, w.from).id, s.seat(n, w.to).id)
			}
		}
		s.count("groups")
	}
	if n := len(s.plan.Groups); n > 0 {
		s.count(fmt.Sprintf("plans with %d groups", n))
		if s.plan.NoRaft {
			s.count("plans with NoRaft")
		}
	}
}

// addGroup adds the way of a group beside that of two members.
func (b *book) addGroup(group uint64, link *way, fromID, toID uint64) {
	w := newWay(link.from, link.to)
	w.group, w.link, w.fromID, w.toID = group, link, fromID, toID
	w.term = w.key(1) // which tells groups apart where nothing else does
	b.ofGroups[[3]uint64{group, w.from, w.to}] = w
	b.inGroups = append(b.inGroups, w)
}

// key returns a number of which other groups have others.
func (w *way) key(n uint64) uint64 { return w.group<<20 + n }

// wayOf returns the way between two members in a group, 0 for that of the members themselves, or nil.
func (b *book) wayOf(group, from, to uint64) *way {
	if group == 0 {
		return b.way(from, to)
	}
	return b.ofGroups[[3]uint64{group, from, to}]
}

// back returns the way in the other direction, or nil.
func (b *book) back(w *way) *way { return b.wayOf(w.group, w.to, w.from) }

// receiver returns who receives, for a text.
func (w *way) receiver() string {
	if w.group == 0 {
		return fmt.Sprintf("member %d", w.to)
	}
	return fmt.Sprintf("member %d, group %d", w.to, w.group)
}

// seat returns that of a group at a member, or nil.
func (s *simulation) seat(group, member uint64) *seat { return s.seats[[2]uint64{group, member}] }

// nextID returns the id of the next replica.
func (st *seat) nextID() uint64 {
	if !st.plan.Own {
		return st.member
	}
	st.lives++
	return st.group*idsOfGroup + st.member*idsOfSeat + uint64(st.lives)
}

// Ids of replicas that are not those of nodes.
const (
	idsOfSeat  = 100
	idsOfGroup = 100 * idsOfSeat
	ghosts     = idsOfSeat / 2 // from here on they are of replicas that there never were
)

// memberOf returns the member whose replica has an id.
func memberOf(id uint64) uint64 {
	if id < idsOfSeat {
		return id % ghosts
	}
	return id / idsOfSeat % (idsOfGroup / idsOfSeat)
}

// running returns the replica of a seat that runs, or nil.
func (s *simulation) replica(group, member uint64) *replica {
	st := s.seat(group, member)
	if st == nil {
		return nil
	}
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	return st.now
}

// replicas returns those of a member that run.
func (m *member) replicas() (all []*replica) {
	for i := range m.s.plan.Groups {
		if r := m.s.replica(uint64(i)+1, m.id); r != nil {
			all = append(all, r)
		}
	}
	return all
}

// inGroup returns the ways of a group from and to a member.
func (s *simulation) inGroup(group, member uint64) (ways []*way) {
	for _, w := range s.book.inGroups {
		if w.group == group && (w.from == member || w.to == member) {
			ways = append(ways, w)
		}
	}
	return ways
}

// onLink returns the ways of all groups between two members, in both directions.
func (s *simulation) onLink(a, b uint64) (ways []*way) {
	for _, w := range s.book.inGroups {
		if (w.from == a && w.to == b) || (w.from == b && w.to == a) {
			ways = append(ways, w)
		}
	}
	return ways
}

// lifeOf returns the life of the sender of a way; 0: it does not run. It is called with the book's mutex held.
func (s *simulation) lifeOf(w *way) int {
	if w.group == 0 {
		if m := s.member(w.from); m != nil {
			return m.life
		}
		return 0
	}
	if r := s.seat(w.group, w.from).now; r != nil {
		return r.life
	}
	return 0
}

// stands reports whether Process of the receiver stands still for a kind.
func (s *simulation) stands(w *way, k kind) bool {
	if w.group == 0 {
		return s.states[w.to].process[k].left() > 0
	}
	st := s.seat(w.group, w.to)
	return st.process[k].left() > 0 || st.slow.left() > 0
}

// excuses takes a message for one of those that the receiver has dropped. It is called with the book's mutex held.
func (s *simulation) excuses(w *way, k kind, x *sent) bool {
	if w.group == 0 {
		return x.at <= w.dropAt[k] && w.excused(k, x)
	}
	st := s.seat(w.group, w.to)
	unheard := !s.book.back(w.link).well(x.at)                                                           // the refusal was lost with a stream
	if x.at <= st.ended || (unheard && (st.now == nil || st.now.id != x.toID || x.at <= st.now.since)) { // the replica had it, and has ended; or nobody had it
		return true
	}
	if st.dropped == 0 || x.at > st.dropAt {
		return false
	}
	st.dropped--
	return true
}

// ofGroups is how counters of groups begin.
const ofGroups = "groups: "

// countOf counts for the members themselves, or for groups.
func (s *simulation) countOf(w *way, name string, n int) {
	if w.group > 0 {
		name = ofGroups + name
	}
	s.countN(name, n)
}

// checkedOf notes that a judge has looked, perhaps at a group.
func (s *simulation) checkedOf(w *way, judge string) {
	s.checked(judge)
	if w.group > 0 {
		s.count(ofGroups + "checked " + judge)
	}
}

// hasGroups reports whether members have raft groups.
func (s *simulation) hasGroups() bool { return len(s.plan.Groups) > 0 }
