package groups

import (
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
	node    *node     // that it sends from; nil: one that is not known
	removed time.Time // when the application has said last that it was removed; zero: never

	answers, posted fair.Flow // to it, on the stream and in POSTs
}

const (
	maxStrangers = 16        // of a group that are remembered
	tellRemoved  = time.Hour // how long it is remembered that one was removed
)

// seen notes the node of a stranger, for refusals and answers.
func (s *sender) seen(id uint64, n *node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n == nil {
		return
	}
	if one := s.strangerOf(id); one != nil && one.node != n {
		one.dropAnswers()
		one.node = n
	}
}

// strangerOf returns what is known of a stranger; nil: the sender has ended. It is called with mu held.
func (s *sender) strangerOf(id uint64) *stranger {
	if s.ended {
		return nil
	}
	if one := s.known()[id]; one != nil {
		return one
	}
	if len(s.known()) >= maxStrangers {
		s.forget()
	}
	more := s.more()
	if more.known == nil {
		more.known = map[uint64]*stranger{}
	}
	one := new(stranger)
	one.answers.Group, one.answers.Owner = s.group.id, s.group
	one.posted.Group, one.posted.Owner = s.group.id, s.group
	more.known[id] = one
	return one
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
	dropAll(one.node.posts.queue, &one.posted)
}

// noteRemoved notes that the application has said of a stranger that it was removed.
func (s *sender) noteRemoved(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if one := s.strangerOf(id); one != nil {
		one.removed = time.Now()
	}
}

// wasRemoved reports whether the application has said so of a stranger lately.
func (s *sender) wasRemoved(id uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	one := s.known()[id]
	return one != nil && !one.removed.IsZero() && time.Since(one.removed) < tellRemoved
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
		q = one.node.posts.queue
		v = q.Offer(&one.posted, m, size, row)
	}
	if err := v.Err(); err != nil {
		q.Drop(1, member.ReasonOf(err))
	}
}
