package groups

import "time"

// most groups with a fault of their own at a time.
const mostTouched = 6

// isolate has faults of some groups, and requires that the others do not notice.
func (s *simulation) isolate() {
	touched := map[uint64]bool{}
	for range 1 + s.rand.IntN(mostTouched) {
		g := s.group()
		if touched[g.id] {
			continue
		}
		touched[g.id] = true
		s.touch(g)
	}
	before := map[uint64]view{}
	for id, g := range s.groups {
		if !touched[id] {
			g.watch()
			before[id] = s.leader(g).view()
		}
	}
	for end := time.Now().Add(isolatedTime); time.Now().Before(end); {
		s.step()
		s.undoDue()
	}
	s.compare(before)
}

// touch begins a fault of a group.
func (s *simulation) touch(g *group) {
	switch s.rand.IntN(4) {
	case 0:
		s.begin("isolated flood", floodTime, s.startFlood(g))
	case 1:
		s.begin("isolated move", 0, s.move(g))
	default:
		s.begin("isolated block", isolatedTime, s.block(g))
		if s.rand.IntN(2) == 0 { // also the blocked replica
			s.begin("isolated move", 0, s.move(g))
		}
	}
}

// compare requires that groups have the leader that they had before, and that none of their proposals takes long.
func (s *simulation) compare(before map[uint64]view) {
	for id, was := range before {
		g := s.groups[id]
		if took := g.oldest(); took > proposalTime {
			s.violated("isolation", "a proposal of group %d takes %v: %s", id, took, s.describe(g))
		}
		s.report.Slowest = max(s.report.Slowest, g.oldest())
		r := s.leader(g)
		if r == nil {
			s.violated("isolation", "group %d has lost its leader %d: %s", id, was.id, s.describe(g))
			continue
		}
		if v := r.view(); v.id != was.id || v.term != was.term {
			s.violated("isolation", "group %d has the leader %d in term %d, and had %d in term %d", id, v.id, v.term, was.id, was.term)
		}
	}
	s.check()
}
