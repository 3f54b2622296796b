package promise

import (
	"slices"
	"sync"
	"time"

	"github.com/seed-4d73690b/rafthttp"
)

// losses count what raft may have lost on a way, and what it is told of, in one life of the sender. They are guarded by the
// book's mutex.
type losses struct {
	life     int    // of the sender
	reports  int    // calls of ReportUnreachable
	taken    int    // messages that a stream took, and that have not been processed
	loose    int    // messages that were posted, perhaps: a post may fail although its message was processed
	streams  uint64 // that the peer has begun to read: what it did not read of one, when it ends, is lost
	connects uint64 // what the Status of the sender said of them last
	changes  int    // snapshots, forgeries, and what the sender has done with the peer
}

// fewLosses is what raft may be told of beside: the same loss by two streams that end, or one of a stream between two looks.
const fewLosses = 16

// most returns how often raft may have been told of losses.
func (l *losses) most() int {
	return fewLosses + l.taken + l.loose + 2*int(l.streams) + 8*l.changes
}

// changed notes something else that may be lost, or lose something.
func (s *simulation) changed(w *way) {
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	w.losses.changes++
}

// given notes a message that was given to Send, and whether it is known that a stream has taken it. It is called with the book's
// mutex held.
func (w *way) given(x *sent, streamed bool) {
	switch {
	case x.life != w.losses.life:
	case !streamed || x.again:
		w.losses.loose++
	case x.times == 0:
		w.losses.taken++
		x.taken = true
	}
}

// processed notes that a message was processed. It is called with the book's mutex held.
func (w *way) processed(x *sent) {
	if x.taken && x.life == w.losses.life {
		w.losses.taken--
	}
	x.taken = false
}

// lookAtLosses looks whether raft is told of more losses than there are.
func (s *simulation) lookAtLosses(m *member, p rafthttp.PeerStatus) {
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	w := s.book.way(m.id, uint64(p.ID))
	if w == nil {
		return
	}
	l, connects := &w.losses, uint64(0)
	for _, st := range p.Streams {
		if st.Direction == rafthttp.StreamOut {
			connects += st.Connects
		}
	}
	if connects < l.connects { // the peer was removed, and is there again
		l.connects = 0
	}
	l.streams += connects - l.connects
	l.connects = connects
	s.checked("coalesced")
	if l.reports > l.most() {
		s.violate("coalesced", "member %d is told %d times that %d is unreachable: at most %d messages, and what was in %d streams, may be lost",
			w.from, l.reports, w.to, l.taken+l.loose, l.streams)
	}
}

// turns are the callbacks that come one after another: those of each kind about each member.
type turns struct {
	mu     sync.Mutex
	busy   map[turn][]string    // what comes
	logged map[string]time.Time // of the last line about a member
	active map[uint64]bool      // what PeerState said last
}

type turn struct{ kind, about string }

// inTurn begins a callback of a kind about a member, and says what it tells. What it returns ends it.
func (m *member) inTurn(kind, about, what string) func() {
	t, key := &m.turns, turn{kind, about}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.busy == nil {
		t.busy, t.logged, t.active = map[turn][]string{}, map[string]time.Time{}, map[uint64]bool{}
	}
	m.s.checked("in turn")
	t.busy[key] = append(t.busy[key], what)
	most := 1
	if kind == "hooks" && m.s.hasGroups() { // a node of groups, and the peer with its id
		most = 2
	}
	if len(t.busy[key]) > most {
		m.s.violate("in turn", "%s about %s come to member %d at once: %q", kind, about, m.id, t.busy[key])
	}
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if m.s.sabotaged("in turn") {
			return // it has not ended when the next one comes
		}
		i := slices.Index(t.busy[key], what)
		t.busy[key] = slices.Delete(t.busy[key], i, i+1)
	}
}

// lookAtLine looks whether a line about a member was logged after those that were written before.
func (m *member) lookAtLine(about, message string, at time.Time) {
	t := &m.turns
	t.mu.Lock()
	defer t.mu.Unlock()
	if at.Before(t.logged[about]) {
		m.s.violate("in turn", "member %d writes %q about %s behind a line that was logged %v later", m.id, message, about, t.logged[about].Sub(at))
	}
	t.logged[about] = at
}

// lookAtTold looks whether the last PeerState says what Status does, once both have had time.
func (s *simulation) lookAtTold(m *member, p rafthttp.PeerStatus) {
	now := s.now()
	w := s.book.way(uint64(p.ID), m.id)
	s.book.mu.Lock()
	due := w != nil && w.well(now-lateReport) && now > w.flaps && now > w.crowd
	s.book.mu.Unlock()
	if !due || !s.inTime() || m.opt.SlowHooks > 0 || time.Since(m.hook.opens()) < lateReport || time.Since(m.born) < lateReport {
		return
	}
	m.turns.mu.Lock()
	active := m.turns.active[uint64(p.ID)]
	m.turns.mu.Unlock()
	if s.checked("in turn"); active != p.Active {
		s.violate("in turn", "member %d was told last that %d is active: %v, and it is not so", m.id, uint64(p.ID), active)
	}
}

// lookAtState looks whether a peer becomes active and inactive in turn.
func (m *member) lookAtState(id uint64, active bool) {
	t := &m.turns
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.active[id] == active {
		m.s.violate("in turn", "member %d is told that %d is active: %v, which it was told before", m.id, id, active)
	}
	t.active[id] = active
}
