package groups

import (
	"maps"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/fair"
	"github.com/seed-4d73690b/rafthttp/internal/member"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// stranger is what is known of a replica that the group does not have.
type stranger struct {
	node  *node  // that it sends from
	heard uint64 // rareOfSender.heard when it was heard of last

	answers, posted fair.Flow // to it, on the stream and in POSTs
}

type queuedKey struct {
	id   uint64
	kind queue.Kind
}

// queued are messages of one kind of one replica.
type queued struct {
	n        int
	late     int           // of them, that no worker and no inbox had when the group got the replica: later ones may be processed by now
	running  bool          // Process has one of them
	returned chan struct{} // closed when it has returned; nil: nobody waits
}

const (
	maxStrangers = 16        // of a group that are remembered
	maxRemoved   = 256       // of a group that were removed, which is remembered
	tellRemoved  = time.Hour // how long it is
)

// from returns the sender of a message of a kind: of r, or of strangers if that is nil. The message is from a node, nil for one that is
// not known. If it is of a stranger it is counted until passed or refused is called. It returns nil if the group has the replica by now.
func (g *Group) from(k queue.Kind, id uint64, r *replica, n *node) *sender {
	if r != nil {
		return &r.in
	}
	for {
		s := g.stranger()
		switch ok, ended := s.admit(k, id, n); {
		case ok:
			return s
		case !ended:
			return nil
		}
	}
}

// admit counts a message of a stranger, unless the group has the replica by now, or the sender has ended and the group has not.
func (s *sender) admit(k queue.Kind, id uint64, n *node) (ok, ended bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.group.find(id) != nil:
		return false, false
	case s.ended && !s.group.stopped.Load():
		return false, true
	}
	s.note(id, n)
	more := s.more()
	if more.queued == nil {
		more.queued = map[queuedKey]queued{}
	}
	q := more.queued[queuedKey{id, k}]
	q.n++
	more.queued[queuedKey{id, k}] = q
	return true, false
}

// begin says that a worker has a message of a stranger for Process, until passed is called. It returns false if the group has got the replica
// meanwhile, whose messages wait for running calls only, and not for those for which there may be no worker: this one came while it was added,
// and the replica may be a stranger again by now.
func (s *sender) begin(k queue.Kind, id uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	more, key := s.more(), queuedKey{id, k}
	q := more.queued[key]
	late := q.late > 0
	if late {
		q.late--
	} else {
		q.running = true
	}
	more.queued[key] = q
	return !late
}

// passed is called once a worker has finished with a message that was counted.
func (s *sender) passed(k queue.Kind, id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	more, key := s.more(), queuedKey{id, k}
	q := more.queued[key]
	if q.returned != nil {
		close(q.returned)
	}
	q.running, q.returned = false, nil
	more.queued[key] = q
	s.uncount(key)
}

// refused is called for a message that was counted, if it is of a stranger, and that no inbox has taken. Process may have an earlier one.
func (s *sender) refused(k queue.Kind, id uint64) {
	if s.stranger {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.uncount(queuedKey{id, k})
	}
}

// uncount is called with mu held.
func (s *sender) uncount(key queuedKey) {
	more := s.more()
	q := more.queued[key]
	if q.n--; q.n > 0 {
		q.late = min(q.late, q.n)
		more.queued[key] = q
		return
	}
	if delete(more.queued, key); len(more.queued) == 0 {
		more.queued = nil
	}
}

// put is called with mu held: it makes r, which was a stranger until now, a replica, in the place of old unless that is nil. Its messages
// wait for running calls of Process with earlier ones, also of former replicas with its id; those that came before and wait are its first
// ones, within its limits. So they are processed in order, and nothing changes for other strangers.
func (g *Group) put(r, old *replica) {
	var after earlier
	if g.rare != nil {
		after.calls = g.rare.earlier[r.id]
	}
	s := g.strangers.Load()
	if s != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		after.queued = s.goneOf(r.id)
	}
	if len(after.calls) > 0 || len(after.queued) > 0 {
		r.in.rare.Store(&rareOfSender{after: after})
	}
	if s != nil {
		s.giveTo(r)
	}
	g.replicas.put(r, old)
	if s == nil {
		return
	}
	if one := s.known()[r.id]; one != nil {
		one.dropAnswers()
		delete(s.known(), r.id)
	}
	delete(s.more().removed, r.id)
	if len(s.known()) == 0 && s.more().queued == nil && len(s.more().removed) == 0 { // as in a group that has all its replicas
		s.setEnded()
		g.strangers.Store(nil)
	}
}

// giveTo is called with mu held: it gives the messages of a stranger that wait to its replica. The others are late, except for one that Process
// has.
func (s *sender) giveTo(r *replica) {
	all := s.more().queued
	for k := range queue.Kinds {
		key := queuedKey{r.id, k}
		q, ok := all[key]
		if !ok {
			continue
		}
		if q.n -= s.moveTo(r, k, q.late); q.n == 0 {
			delete(all, key)
			continue
		}
		if q.late = q.n; q.running {
			q.late--
		}
		all[key] = q
	}
	if len(all) == 0 {
		s.more().queued = nil
	}
}

// moveTo is giveTo for one kind, of which the first ones are late already. It returns how many do not wait here any more.
func (s *sender) moveTo(r *replica, k queue.Kind, late int) (moved int) {
	in := s.existing(k)
	if in == nil {
		return 0
	}
	moved, lost, why := s.group.groups.pools[k].Move(in, r.in.box(k), func(m *raftpb.Message) bool {
		if m.GetFrom() != r.id {
			return false
		}
		late--
		return late < 0
	})
	for i := range lost {
		if !s.group.groups.refuseWaiting(lost[i].Msg, errAdded) { // or its request waits for room
			r.in.drop(k, why.Err())
		}
	}
	return moved
}

// goneOf is called with mu held: it returns channels that are closed when calls of Process with messages of a stranger have returned, by
// kind.
func (s *sender) goneOf(id uint64) (gone map[queue.Kind]<-chan struct{}) {
	all := s.more().queued
	for k := range queue.Kinds {
		q, ok := all[queuedKey{id, k}]
		if !ok || !q.running {
			continue
		}
		if q.returned == nil {
			q.returned = make(chan struct{})
			all[queuedKey{id, k}] = q
		}
		if gone == nil {
			gone = map[queue.Kind]<-chan struct{}{}
		}
		gone[k] = q.returned
	}
	return gone
}

// seen notes the node of a stranger, for refusals and answers.
func (s *sender) seen(id uint64, n *node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.note(id, n)
}

// note is seen with mu held.
func (s *sender) note(id uint64, n *node) {
	if n == nil {
		return
	}
	one := s.strangerOf(id)
	if one == nil || one.node == n {
		return
	}
	if one.node != nil { // its flows stay with the queues of that: a worker may have taken messages of them
		one.dropAnswers()
		delete(s.known(), id)
		if one = s.strangerOf(id); one == nil {
			return
		}
	}
	one.node = n
}

// strangerOf returns what is known of a stranger; nil: the sender has ended. It is called with mu held.
func (s *sender) strangerOf(id uint64) *stranger {
	if s.ended {
		return nil
	}
	more := s.more()
	more.heard++
	one := more.known[id]
	if one == nil {
		if len(more.known) >= maxStrangers {
			s.forgetOldest()
		}
		if more.known == nil {
			more.known = map[uint64]*stranger{}
		}
		one = new(stranger)
		one.answers.Group, one.answers.Owner = s.group.id, s.group
		one.posted.Group, one.posted.Owner = s.group.id, s.group
		more.known[id] = one
	}
	one.heard = more.heard
	return one
}

// forgetOldest forgets the stranger that was heard of before all others, one that was removed if there is any: it needs no answers. It is
// called with mu held.
func (s *sender) forgetOldest() {
	var first *stranger
	var id uint64
	gone := false
	for other, one := range s.known() {
		if removed := s.isKnownRemoved(other); first == nil || removed && !gone || removed == gone && one.heard < first.heard {
			first, id, gone = one, other, removed
		}
	}
	if first != nil {
		first.dropAnswers()
		delete(s.known(), id)
	}
}

// forget forgets all strangers. It is called with mu held.
func (s *sender) forget() {
	for _, one := range s.known() {
		one.dropAnswers()
	}
	clear(s.known())
}

// dropAnswers drops the answers that wait.
func (one *stranger) dropAnswers() {
	if one.node == nil {
		return
	}
	dropAll := func(q *fair.SendQueue, f *fair.Flow) {
		if lost := q.Remove(f); len(lost) > 0 {
			q.Drop(len(lost), member.ReasonOf(errs.ErrPeerRemoved))
		}
	}
	dropAll(one.node.writers[messages].Queue, &one.answers)
	dropAll(one.node.posts.queues[queue.Control], &one.posted)
}

// noteRemoved notes that the application has said of a stranger that it was removed.
func (s *sender) noteRemoved(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	more := s.more()
	if more.removed == nil {
		more.removed = map[uint64]time.Time{}
	}
	if _, ok := more.removed[id]; !ok {
		maps.DeleteFunc(more.removed, func(_ uint64, at time.Time) bool { return time.Since(at) >= tellRemoved })
	}
	if _, ok := more.removed[id]; !ok && len(more.removed) >= maxRemoved {
		for other := range more.removed { // any: in turns, each would be forgotten before it comes again
			delete(more.removed, other)
			break
		}
	}
	more.removed[id] = time.Now()
}

// wasRemoved reports whether the application has said so of a stranger lately.
func (s *sender) wasRemoved(id uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.isKnownRemoved(id)
}

// isKnownRemoved is wasRemoved with mu held.
func (s *sender) isKnownRemoved(id uint64) bool {
	more := s.rare.Load()
	if more == nil {
		return false
	}
	at, ok := more.removed[id]
	return ok && time.Since(at) < tellRemoved
}

// nodeOf returns the node of a stranger, or nil.
func (s *sender) nodeOf(id uint64) *node {
	s.mu.Lock()
	defer s.mu.Unlock()
	if one := s.known()[id]; one != nil {
		return one.node
	}
	return nil
}

// answer sends raft's answer to a replica that the group does not have by the node that the replica sends from. A replica that was
// away catches up so with a leader, or votes for a candidate, that joined meanwhile: without its answers it never gets the
// configuration in which the other is. Other messages are ignored: what raft sends unasked goes to nodes that the application knows.
func (g *Group) answer(m *raftpb.Message) {
	s := g.strangers.Load()
	if s == nil || !raft.IsResponseMsg(m.GetType()) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	one := s.known()[m.GetTo()]
	if one == nil || one.node == nil {
		return
	}
	q, size, row := one.node.writers[messages].Queue, wire.MemorySize(m), wire.IsCoalesced(m)
	v := q.Offer(&one.answers, m, size, row)
	if v == queue.Down {
		q = one.node.posts.queues[queue.Control]
		v = q.Offer(&one.posted, m, size, row)
	}
	if err := v.Err(); err != nil {
		q.Drop(1, member.ReasonOf(err))
	}
}
