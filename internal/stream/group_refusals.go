package stream

import (
	"maps"
	"sync"

	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

const (
	maxGroupRefusals = 256     // that are sent between two calls of Tidy
	maxTurnRefusals  = 1 << 14 // that take turns: more may be left out for as long as there are so many
)

// refusals are those that wait, and those that were sent since the last reset. If there are more than may be sent, those that were
// are left out until the others had their turn. One that came again after it was sent is sent again after that, up to
// maxGroupRefusals: there may be no further message to be refused. The zero value is ready.
type refusals struct {
	mu      sync.Mutex
	waiting []wire.GroupRefusal
	told    toldRefusals
	more    bool         // there were more since the last reset
	earlier toldRefusals // told before it, in this turn
}

// toldRefusals has what became of refusals.
type toldRefusals map[wire.GroupRefusal]refusalState

type refusalState uint8

const (
	refusalWaits refusalState = iota
	refusalSent
	refusalAgain // it was sent, and came again
)

// came notes that a refusal came, and reports whether it was told.
func (t toldRefusals) came(r wire.GroupRefusal) bool {
	state, ok := t[r]
	if state == refusalSent {
		t[r] = refusalAgain
	}
	return ok
}

// add reports whether r is one to send.
func (s *refusals) add(r wire.GroupRefusal) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.told.came(r) || s.earlier.came(r) {
		return false
	}
	if len(s.told) >= maxGroupRefusals {
		s.more = true
		return false
	}
	s.put(r)
	return true
}

// put is called with mu held.
func (s *refusals) put(r wire.GroupRefusal) {
	if s.told == nil {
		s.told = toldRefusals{}
	}
	s.told[r] = refusalWaits
	s.waiting = append(s.waiting, r)
}

func (s *refusals) take() []wire.GroupRefusal {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.waiting
	for _, r := range all {
		s.told[r] = refusalSent
	}
	s.waiting = nil
	return all
}

// lost has those wait again that were taken and did not arrive, unless too many others do: they were not told.
func (s *refusals) lost(all []wire.GroupRefusal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range all {
		delete(s.earlier, r)
		state, ok := s.told[r]
		switch {
		case ok && state == refusalWaits:
		case !ok && len(s.told) >= maxGroupRefusals:
			s.more = true
		default:
			s.put(r)
		}
	}
}

// reset forgets those that were sent, once all had their turn. Those that came again wait then, as do those that wait already.
func (s *refusals) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	told, waiting := s.told, s.waiting
	for _, r := range waiting {
		delete(told, r)
	}
	if s.earlier != nil {
		maps.Copy(s.earlier, told)
		told = s.earlier
	}
	s.waiting, s.told = nil, nil
	for _, r := range waiting {
		s.put(r)
	}
	if s.more && len(told) < maxTurnRefusals {
		s.earlier, s.more = told, false
		return
	}
	s.earlier, s.more = nil, false
	for r, state := range told {
		if state == refusalAgain && len(s.waiting) < maxGroupRefusals {
			s.put(r)
		}
	}
}
