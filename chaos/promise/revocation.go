package promise

import (
	"cmp"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

const (
	// listFile is the revocation list of all members.
	listFile = "crl.der"
	// ofList is what the list has in place of a member's id, where files are torn.
	ofList = 0
)

// bar is a revocation of a member's certificate, until it has another one.
type bar struct {
	of     uint64
	ways   []*way        // from the member, and to it
	known  time.Duration // when the list that has it was there
	silent bool          // nothing comes these ways any more: all have read it
	over   bool
}

// list returns the list of what was revoked until now.
func (a *authority) list() []byte {
	list, err := a.ca.Revocations(a.revoked...)
	if err != nil {
		a.s.violate("simulation", "revocation list: %v", err)
	}
	return list
}

// revoke has the certificates of A be on the list of all members, until A has another one.
func (a *authority) revoke(e Event) {
	s := a.s
	if a.bars[e.A] != nil {
		return // it is
	}
	a.whole(e.A)
	a.revoked = append(a.revoked, a.issued[e.A]...) // connections may still have one from before it was renewed
	a.issued[e.A] = nil
	b := &bar{of: e.A, ways: s.around(e.A)}
	a.bars[e.A] = b
	for _, w := range b.ways {
		s.hurt(w)
	}
	a.publish(e.How == "torn")
	a.allKnow(b)
	s.until(e.For, "revoke", func() {
		if !b.over {
			a.issue(e.A, false)
		}
	})
}

// allKnow notes when nothing may come any more of a member that was revoked.
func (a *authority) allKnow(b *bar) {
	s := a.s
	s.at(b.known+s.barTime(), "all know of the revocation", func() {
		if !b.over && s.now() < b.known+s.barTime() { // the list was torn before all had read it
			a.allKnow(b)
			return
		}
		if b.silent = !b.over; b.silent {
			s.checked("revoked")
			for _, w := range b.ways {
				s.silent(w, +1)
			}
		}
	})
}

// publish writes the list. While half of it is there, there are no new connections, and nobody learns of revocations.
func (a *authority) publish(torn bool) {
	s, list, known := a.s, a.list(), a.s.now()
	if torn {
		known += tornTime
	}
	for _, b := range a.bars {
		if !b.silent && (torn || b.known == 0 || b.known > known) {
			b.known = known
			for _, w := range b.ways {
				s.setBarred(w, b.of, known)
			}
		}
	}
	a.whole(ofList)
	if !torn {
		a.write(a.file(listFile), list)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.write(a.file(listFile), list[:len(list)/2])
	a.rest[ofList] = func() { a.write(a.file(listFile), list) }
	for _, w := range s.book.all {
		s.hurt(w)
	}
	s.until(tornTime, "torn list", func() {
		a.whole(ofList)
		for _, w := range s.book.all {
			s.heal(w, s.recovers(w))
		}
	})
}

// lift ends a revocation, since the member has another certificate.
func (a *authority) lift(b *bar) {
	b.over = true
	delete(a.bars, b.of)
	// Connections that were made with the revoked certificate are cut all the same.
	cut := max(0, b.known+a.s.barTime()-a.s.now())
	for _, w := range b.ways {
		a.s.setBarred(w, b.of, 0)
		if b.silent {
			a.s.silent(w, -1)
		}
		a.s.mayFlap(w, rotateTime)
		a.s.crowded(w, rotateTime) // raft is told when a stream moves to another connection
		a.s.heal(w, cut+a.s.recovers(w))
	}
}

// barTime is how long a revocation, or a refusal by VerifyPeer, may take until nothing of the member is processed any more.
func (s *simulation) barTime() time.Duration {
	return cmp.Or(s.plan.Recheck, defaultRecheck) + time.Second
}

// defaultRecheck is the TLSRecheck of a Transport that says nothing else.
const defaultRecheck = 10 * time.Second

// setBarred notes when what comes from a member was revoked; 0: it was not.
func (s *simulation) setBarred(w *way, from uint64, at time.Duration) {
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	if w.from == from {
		w.barred = at
	}
}

// lookAtRevoked looks whether a message comes from a member whose certificate was revoked, or from or to one that VerifyPeer
// refuses.
func (s *simulation) lookAtRevoked(m *member, msg *raftpb.Message) {
	w := s.book.way(msg.GetFrom(), m.id)
	if w == nil {
		return
	}
	s.book.mu.Lock()
	barred, refused := w.barred, w.refused
	sent, k, n := time.Duration(0), kindOf(msg.GetType()), numberOf(msg)
	if msg.GetType() != raftpb.MsgSnap && n < uint64(len(w.msgs[k])) {
		sent = w.msgs[k][n].first // an early copy may arrive
	}
	s.book.mu.Unlock()
	if msg.GetType() == raftpb.MsgSnap {
		sent = s.begunAt(msg.GetSnapshot().GetMetadata().GetIndex())
	}
	if s.sabotaged("refused") {
		refused = [2]time.Duration{1, 1}
	}
	if s.tooLong(m, barred) || s.sabotaged("revoked") {
		s.violate("revoked", "member %d processes a message of %d, whose certificate was revoked %v ago: %v", m.id, w.from, s.now()-barred, msg)
	}
	for by, at := range refused {
		if at > 0 {
			s.checked("refused")
		}
		late := s.tooLong(m, at) && s.refuses(w, by)
		if by == 0 { // what the sender has written before it cut the receiver may arrive later
			late = late && sent > at+s.barTime()
		}
		if late {
			s.violate("refused", "member %d processes a message of %d, of which VerifyPeer of one refuses the other since %v: %v", m.id, w.from, s.now()-at, msg)
		}
	}
}

// refuses reports whether VerifyPeer of one end of a way refuses the other now: at the end of a refusal the book may not know yet that it is over.
func (s *simulation) refuses(w *way, by int) bool {
	one, other := w.from, w.to
	if by == 1 {
		one, other = other, one
	}
	return s.states[one].refusing(other).left() > 0 || s.sabotaged("refused")
}

// begunAt returns when SendSnapshot last got the snapshot of an index; 0: never.
func (s *simulation) begunAt(index uint64) (at time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.transfers {
		if t.index == index && t.replica == nil {
			at = max(at, t.given)
		}
	}
	return at
}

// tooLong reports whether something has held since a time, which is not 0, for so long that a member may not process any more what
// came before. That may have waited for Process.
func (s *simulation) tooLong(m *member, since time.Duration) bool {
	latest := since + s.barTime()
	for k := range m.machine.process {
		latest = max(latest, m.machine.process[k].opens().Sub(s.start)+time.Second)
	}
	return since > 0 && s.inTime() && s.now() > latest
}
