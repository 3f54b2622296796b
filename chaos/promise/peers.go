package promise

import (
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp"
)

// lookAtErrors looks at ErrorC.
func (s *simulation) lookAtErrors(m *member) {
	if s.sabotaged("removed") {
		m.errorC <- rafthttp.ErrMemberRemoved
	}
	select {
	case err := <-m.errorC:
		s.checked("removed")
		if !s.hasLeft(m.id) {
			s.violate("removed", "member %d is told %v, and is a member", m.id, err)
		}
		m.told.Store(true)
	default:
	}
}

// lookAtPeers looks whether members have noticed which peers are silent.
func (s *simulation) lookAtPeers(now time.Duration) {
	if !s.inTime() {
		return
	}
	for _, w := range s.book.all {
		m := s.member(w.to)
		if m == nil || s.cutFor(w, now) < 2*readTime+tick+4*s.plan.Delay || time.Since(m.born) < 2*readTime {
			continue
		}
		s.checked("noticed")
		if !m.ActiveSince(types.ID(w.from)).IsZero() || s.sabotaged("noticed") {
			s.violate("noticed", "member %d takes %d for active, of which nothing has come for %v", w.to, w.from, s.cutFor(w, now))
		}
	}
}

// lookAtActive looks whether a peer of which a stream brings something is active.
func (s *simulation) lookAtActive(m *member, p rafthttp.PeerStatus, now time.Duration) {
	if !s.inTime() {
		return
	}
	w := s.book.way(uint64(p.ID), m.id)
	s.book.mu.Lock()
	well := w != nil && w.well(now-time.Second)
	connects := uint64(0)
	for _, st := range p.Streams {
		if st.Direction == rafthttp.StreamIn {
			connects += st.Connects
		}
	}
	if well && w.well(now-lateReport) && w.ends > 0 && connects > w.ends && now > w.flaps {
		s.violate("healthy link", "a stream from %d to %d has ended, and the link is well since %v: %s", w.from, w.to, now-w.wellAt, p.LastError)
	}
	if w != nil {
		w.ends = connects
	}
	s.book.mu.Unlock()
	for _, st := range p.Streams {
		if well && st.Direction == rafthttp.StreamIn && st.Up && time.Since(st.Since) > time.Second+4*s.plan.Delay {
			s.checked("active")
			if !p.Active || s.sabotaged("active") {
				s.violate("active", "member %d takes %d for inactive, of which stream %s is up since %v: %s", m.id, w.from, st.Name, time.Since(st.Since), p.LastError)
			}
		}
	}
}

// cutFor returns for how long nothing has come this way.
func (s *simulation) cutFor(w *way, now time.Duration) time.Duration {
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	if w.cuts == 0 {
		return 0
	}
	return now - max(w.cutAt, w.tookAt) // what came before may be processed later, which is a sign of life as well
}
