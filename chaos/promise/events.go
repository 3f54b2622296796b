package promise

import (
	"fmt"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// actions are all of them.
var actions = append([]Action{
	Cut, HalfOpen, Reset, Slow, Narrow, End, Block, HangLog, HangHook, FullDisk, Snapshot, Post, Burst, Pause, Remove, Update,
	Stranger, Leave, Rotate, Revoke, Distrust, Forge, Scene,
}, groupActions...)

// schedule has all events of the plan happen.
func (s *simulation) schedule() {
	for _, w := range s.book.all {
		w.wellAt = s.recovers(w)
	}
	for _, e := range s.plan.Events {
		s.at(e.At, fmt.Sprintf("%s %+v", e.Do, e), func() { s.do(e) })
	}
}

// do has an event happen.
func (s *simulation) do(e Event) {
	s.count("event " + string(e.Do))
	e.For = min(e.For, max(0, s.plan.Length-s.now())) // all is mended then
	a, b, w := s.member(e.A), s.member(e.B), s.book.way(e.A, e.B)
	switch e.Do {
	case Cut, HalfOpen, Reset, Slow, Narrow:
		if w != nil {
			s.doToLink(e)
		}
	case End, Stranger, Leave:
		if a != nil {
			s.doToLife(e)
		}
	case Block:
		s.block(e)
	case HangLog:
		s.states[e.A].log.shut(e.For)
	case HangHook:
		s.states[e.A].hook.shut(e.For)
	case FullDisk:
		s.fillDisk(e)
	case Rotate:
		if a != nil && s.trust != nil {
			s.trust.rotate(e)
		}
	case Revoke:
		if a != nil && s.trust != nil && s.plan.Revokes {
			s.trust.revoke(e)
		}
	case Distrust:
		s.distrust(e)
	case Forge:
		if a != nil && w != nil && s.isPeer(w) {
			a.forge(w, e.How)
		}
	case GroupBlock, GroupStop, GroupRemove, GroupMove, GroupLeave, GroupGhost, GroupBurst, GroupSnapshot, GroupPost:
		s.doToGroup(e)
	case Snapshot, Post, Burst:
		if a != nil && w != nil && (s.isPeer(w) || (e.Do == Snapshot && e.B == nobody && !s.plan.NoRaft)) {
			a.giveWork(w, e)
		}
	case Pause, Remove, Update:
		if a != nil && w != nil && s.isPeer(w) && (e.Do != Remove || b != nil) {
			s.doToPeer(a, w, e)
		}
	}
}

// doToLink has something happen to the way from A to B.
func (s *simulation) doToLink(e Event) {
	l, ways, key := s.net.Link(host(e.A), host(e.B)), s.between(e.A, e.B), [2]uint64{e.A, e.B}
	if e.Do == Slow || e.Do == Narrow {
		if s.bad[key] {
			return // it is, for another reason
		}
		s.bad[key] = true
	}
	begin := func() {
		for _, w := range ways {
			s.hurt(w)
		}
	}
	end := func(after time.Duration) {
		for _, w := range ways {
			s.heal(w, s.recovers(w)+after)
		}
	}
	begin()
	switch e.Do {
	case Cut:
		s.cut(e.A, e.B)
		s.until(e.For, "cut", func() {
			if s.sabotaged("recovery") {
				s.cut(e.A, e.B)
			}
			s.mend(e.A, e.B)
			end(0)
		})
	case HalfOpen:
		l.HalfOpen()
		s.net.Link(host(e.B), host(e.A)).HalfOpen()
		end(4 * readTime)
	case Reset:
		s.net.Reset(host(e.A), host(e.B))
		end(0)
		s.interrupt(ways)
	case Slow:
		l.SetDelay(s.plan.Delay + time.Duration(e.N)*time.Millisecond)
		s.until(e.For, "slow", func() {
			s.bad[key] = false
			s.setLink(e.A, e.B)
			end(readTime)
		})
	case Narrow:
		l.SetBandwidth(e.N)
		gone := s.linger(s.book.way(e.A, e.B), e.For)
		if e.N == 1 { // not even a link heartbeat comes through
			s.silent(s.book.way(e.A, e.B), +1)
		}
		s.until(e.For, "narrow", func() {
			s.bad[key] = false
			s.setLink(e.A, e.B)
			if e.N == 1 {
				s.silent(s.book.way(e.A, e.B), -1)
			}
			end(2 * readTime)
			s.at(s.now()+2*readTime, "end of late dials", gone)
		})
	}
}

// cut cuts a link once more.
func (s *simulation) cut(a, b uint64) {
	key := [2]uint64{a, b}
	if s.linked[key]++; s.linked[key] == 1 {
		s.net.Link(host(a), host(b)).Cut()
	}
	s.silent(s.book.way(a, b), +1)
}

// mend undoes a cut.
func (s *simulation) mend(a, b uint64) {
	key := [2]uint64{a, b}
	if s.linked[key]--; s.linked[key] == 0 {
		s.net.Link(host(a), host(b)).Mend()
	}
	s.silent(s.book.way(a, b), -1)
}

// silent notes that one thing more, or less, holds back all that goes a way.
func (s *simulation) silent(w *way, n int) {
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	if w.cuts == 0 || n < 0 { // what one of several has held back comes when it ends
		w.cutAt = s.now()
	}
	w.cuts += n
}

// block has Process of A stand still for one kind.
func (s *simulation) block(e Event) {
	for k, name := range kindNames {
		if name == e.How {
			s.states[e.A].process[k].shut(e.For)
		}
	}
	s.excuse(e.A)
	m := s.member(e.A)
	for _, w := range s.book.all {
		// What waits for Process takes MaxQueuedBytes from what the member sends; and while answers wait, it does not learn
		// which appends have arrived, and tells raft later of those that had no room.
		if w.from == e.A && (m != nil && m.opt.MaxQueuedBytes > 0 || e.How == kindNames[control]) {
			s.crowded(w, e.For+3*readTime)
		}
		if w.to != e.A {
			continue
		}
		s.crowded(w, e.For+3*readTime)
		s.mayFlap(w, e.For+3*readTime)
		if e.How == kindNames[control] {
			s.hurt(w)
			s.until(e.For, "block", func() { s.heal(w, s.recovers(w)) })
		}
	}
}

// fillDisk has the disk of A be full.
func (s *simulation) fillDisk(e Event) {
	mc := s.states[e.A]
	mc.full.Store(true)
	s.excuse(e.A)
	s.until(e.For, "full disk", func() { mc.full.Store(false) })
}

// isNarrow reports whether lines are so narrow that what is on them at once may take the read timeout.
func (s *simulation) isNarrow() bool { return s.plan.Rate > 0 && s.plan.Rate < 4*s.plan.window() }

// fill notes that so many bytes take a line to which posts go: four at a time, each of which waits for what is on the line
// before it, carry few heartbeats.
func (s *simulation) fill(w *way, bytes int) {
	m := s.member(w.from)
	small := m != nil && m.opt.SendQueue > 0 && m.opt.SendQueue < 64 // control messages find no room while one proposal is written
	if rate := s.plan.Rate; rate > 0 && (s.byPosts(w) || small) {
		s.shock(w, s.recovers(w)+3*time.Duration(bytes)*time.Second/time.Duration(rate))
	}
}

// excuse notes that snapshots to a member need not arrive.
func (s *simulation) excuse(to uint64) {
	for _, t := range s.transfers {
		if t.w.to == to {
			t.due = 0
		}
	}
}

// interrupt notes that connections were reset: snapshots that can be resumed have to arrive all the same, later.
func (s *simulation) interrupt(ways []*way) {
	for _, t := range s.transfers {
		for _, w := range ways {
			if (t.w == w || t.w.link == w) && t.due > 0 && !t.over && s.resumes(t) {
				took := t.due - t.began
				t.began = max(t.began, s.now()+s.recovers(w)+time.Second)
				t.due = t.began + 2*took
			}
		}
	}
}

// giveWork has a member send something.
func (m *member) giveWork(w *way, e Event) {
	switch e.Do {
	case Snapshot:
		m.sendSnapshot(w, max(2, e.N), e.How)
	case Post:
		m.post(w)
	case Burst:
		m.s.crowded(w, m.crowds(e))
		m.s.usesUp(e)
		if to := m.s.member(w.to); to != nil && to.opt.MaxMessageBytes > 0 && int64(e.Size) > to.opt.MaxMessageBytes/2 {
			m.s.shock(w, 2*readTime+m.s.recovers(w)) // it ends the stream that brings it
			m.s.mayFlap(w, time.Hour)                // raft may send it again
			m.s.crowded(w, time.Hour)
		}
		m.s.fill(w, e.N*e.Size)
		if m.s.isNarrow() {
			m.s.excuse(w.to)
			m.s.excuse(w.from)
		}
		if e.Size > 32<<10 && m.opt.Resends { // too large for somebody, perhaps, and sent again and again, also to later lives
			m.s.crowded(w, time.Hour)
			m.s.mayFlap(w, time.Hour)
		}
		types := map[string]raftpb.MessageType{kindNames[appends]: raftpb.MsgApp, kindNames[proposals]: raftpb.MsgProp}
		before := m.laneStates()
		var all []*sentTo
		var msgs []*raftpb.Message
		for range e.N {
			x := m.write(w, types[e.How], e.Size)
			all, msgs = append(all, x), append(msgs, x.m)
		}
		m.send(msgs...)
		m.noteLanes(all, before, m.laneStates())
		m.s.lookAtStatus(m) // while the queues are full
	}
}

// usesUp notes that one message of a burst may take all that queues of one of its members may hold, from whoever else is there.
func (s *simulation) usesUp(e Event) {
	for _, id := range []uint64{e.A, e.B} {
		if m := s.member(id); m != nil && m.opt.MaxQueuedBytes > 0 && int64(e.Size) > m.opt.MaxQueuedBytes/2 {
			for _, w := range s.around(id) {
				s.crowded(w, 3*readTime)
			}
		}
	}
}

// crowded notes that raft may be told of losses for some time, although the way is well.
func (s *simulation) crowded(w *way, d time.Duration) {
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	w.crowd = max(w.crowd, s.now()+d)
}

// distrust has VerifyPeer of A refuse B.
func (s *simulation) distrust(e Event) {
	if !s.verifies(e.A) {
		return
	}
	s.states[e.A].refusing(e.B).shut(e.For)
	s.noteRefusal(e, s.now())
	s.until(e.For, "refusal", func() {
		if s.states[e.A].refusing(e.B).left() == 0 {
			s.noteRefusal(e, 0)
		}
	})
	for _, w := range s.between(e.A, e.B) {
		s.hurt(w)
		s.crowded(w, e.For+rotateTime) // who was posted to is told late
		s.mayFlap(w, e.For+rotateTime)
		s.until(e.For, "distrust", func() { s.heal(w, s.recovers(w)) })
	}
}

// verifies reports whether a member has VerifyPeer.
func (s *simulation) verifies(id uint64) bool { return s.trust != nil && s.plan.Verify && id%2 == 1 }

// noteRefusal notes since when A refuses B; 0: it does not.
func (s *simulation) noteRefusal(e Event, at time.Duration) {
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	for _, w := range s.between(e.A, e.B) {
		by := 1
		if w.from == e.A {
			by = 0
		}
		if at == 0 || w.refused[by] == 0 {
			w.refused[by] = at
		}
	}
}

// forge sends what no raft may get. It is no message of the book's: nobody has to be told of its loss.
func (m *member) forge(w *way, how string) {
	msg := &raftpb.Message{Type: raftpb.MsgForgetLeader.Enum(), From: new(w.from), To: new(w.to), Term: new(uint64(1))}
	m.s.crowded(w, 4*readTime) // a post of it fails
	m.s.changed(w)
	if how == "local thread" {
		msg.Type, msg.From = raftpb.MsgStorageAppendResp.Enum(), new(raft.LocalAppendThread)
	}
	m.send(msg)
}

// deafen notes when the receiver of a way cut the sender.
func (s *simulation) deafen(from, to uint64, at time.Duration) {
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	if w := s.book.way(from, to); w != nil {
		w.deaf = at
	}
}

// mayFlap notes that streams may end for some time, although the way is well.
func (s *simulation) mayFlap(w *way, d time.Duration) {
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	w.flaps = max(w.flaps, s.now()+d)
}

// doToPeer changes a peer of a member.
func (s *simulation) doToPeer(m *member, w *way, e Event) {
	ways := s.between(e.A, e.B)
	if e.Do != Update {
		for _, x := range ways {
			s.hurt(x)
		}
	}
	end := func(do func()) {
		s.until(e.For, string(e.Do), func() {
			s.deafen(e.B, e.A, 0)
			if s.member(e.A) == m {
				do()
			}
			for _, x := range ways {
				if e.Do == Update {
					s.hurt(x)
				}
				s.heal(x, s.recovers(x))
			}
		})
	}
	s.changed(w)
	id := types.ID(e.B)
	switch e.Do {
	case Pause:
		m.CutPeer(id)
		s.deafen(w.to, w.from, s.now())
		end(func() { m.MendPeer(id) })
	case Remove:
		s.part(m, w)
		end(func() { s.join(m, w) })
	case Update: // it takes a moment to find out which of them works
		for _, x := range ways {
			s.crowded(x, e.For+2*rotateTime)
			s.mayFlap(x, e.For+2*rotateTime)
			s.shock(x, recovery+s.recovers(x))
		}
		m.UpdatePeer(id, []string{"http://" + host(e.B) + ":1", s.url(e.B)})
		end(func() { m.UpdatePeer(id, []string{s.url(e.B)}) })
	}
}
