package promise

import (
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
)

// doToLife ends a life of A, and begins the next.
func (s *simulation) doToLife(e Event) {
	if e.Do == Leave {
		s.leave(e)
		return
	}
	how, away := e.How, e.How == "power"
	if e.Do == Stranger {
		how = "crash"
	}
	m := s.fell(e.A, how, away)
	if e.How == "flickers" {
		s.speaks(e.A, -1)
	}
	x := new(atomic.Pointer[stranger])
	s.until(e.For, string(e.Do), func() { s.rise(e, m, away, x) })
	if e.Do == Stranger {
		s.waiting.Go(func() {
			<-m.over
			one, err := s.startStranger(e.A, e.How)
			if err != nil {
				s.violate("simulation", "stranger: %v", err)
				return
			}
			x.Store(one)
		})
	}
}

// speaks notes that somebody says something in the name of a member that does not run, or does not any more.
func (s *simulation) speaks(id uint64, n int) {
	for _, w := range s.book.all {
		if w.from == id {
			s.silent(w, n)
		}
	}
}

// fell ends a life of a member, which is noticed by the others.
func (s *simulation) fell(id uint64, how string, away bool) *member {
	for _, w := range s.around(id) {
		s.hurt(w)
		if w.from == id {
			s.silent(w, +1)
		}
		if away { // nobody says that it is gone
			s.cut(w.from, w.to)
		}
	}
	return s.end(id, how)
}

// rise begins the next life, once the last has ended.
func (s *simulation) rise(e Event, last *member, away bool, x *atomic.Pointer[stranger]) {
	one := x.Load()
	if (e.Do == Stranger && one == nil) || !last.isOver() {
		s.at(s.now()+tick, "later", func() { s.rise(e, last, away, x) })
		return
	}
	if one != nil {
		s.checked("bounds")
		if n, d := one.most(), time.Since(one.began); n > maxStreams(d) {
			s.violate("bounds", "a member has asked %d times in %v for a stream of %d, which ends it", n, d, e.A)
		}
		s.dismiss(one)
	}
	if e.How == "flickers" {
		s.speaks(e.A, +1)
	}
	s.live(e.A, e.Life)
	for _, w := range s.around(e.A) {
		if away {
			s.mend(w.from, w.to)
		}
		if w.from == e.A {
			s.silent(w, -1)
			s.forgetReports(w)
		}
		after := s.recovers(w)
		if away {
			after += readTime // until who only reads notices that the connection is of an earlier life
		}
		s.heal(w, after)
	}
}

// forgetReports forgets what an earlier life of the sender was told.
func (s *simulation) forgetReports(w *way) {
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	w.reported = 0
}

// leave has A leave the cluster: the others remove it, and it is told so, and ends.
func (s *simulation) leave(e Event) {
	s.mu.Lock()
	s.left[e.A] = true
	s.mu.Unlock()
	for _, w := range s.around(e.A) {
		s.hurt(w)
		if w.to == e.A {
			s.part(s.member(w.from), w)
		}
	}
	m := s.member(e.A)
	s.at(s.now()+leaveTime, "end of leave", func() {
		if s.member(e.A) != m {
			return
		}
		if !m.told.Load() && s.mayBeTold(m) && s.inTime() {
			s.violate("removed", "member %d has left %v ago, and has not been told", e.A, leaveTime)
		}
		s.end(e.A, "stop")
	})
}

// leaveTime is how long a member may take to learn that it has left.
const leaveTime = 15 * time.Second

// mayBeTold reports whether a member can reach one of those that know that it has left.
func (s *simulation) mayBeTold(m *member) bool {
	if s.plan.NoRaft {
		return false
	}
	for _, w := range s.book.all {
		if other := s.member(w.to); w.from == m.id && other != nil && s.noDial(m.id, w.to) == nil && w.faults == 1 &&
			s.now()-w.wellAt > leaveTime {
			return true
		}
	}
	return false
}

// part takes a peer from a member.
func (s *simulation) part(m *member, w *way) {
	s.book.mu.Lock()
	w.isPeer = false
	w.epoch++
	s.book.mu.Unlock()
	s.changed(w)
	s.deafen(w.to, w.from, 0)
	if m != nil {
		m.RemovePeer(types.ID(w.to))
	}
}
