package groups

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/fair"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
)

// sender is a replica as the sender of messages, or all replicas that a group does not have: its messages wait for
// Process in an inbox for each kind.
type sender struct {
	group    *Group
	control  fair.Inbox // of control messages
	shares   *[queue.Kinds]*fair.Share
	others   atomic.Pointer[otherInboxes] // nil: nothing of the other kinds was received yet; set under mu
	rare     atomic.Pointer[rareOfSender] // nil: nothing of it was needed yet; set under mu
	mu       sync.Mutex
	stranger bool // it is of replicas that the group does not have
	ended    bool
}

// otherInboxes are those of the kinds beside control messages.
type otherInboxes [queue.Kinds - 1]fair.Inbox

// rareOfSender is what few senders have.
type rareOfSender struct {
	done    chan struct{}        // closed at the end; nil: nobody waits for it
	after   earlier              // what the messages wait for; does not change
	known   map[uint64]*stranger // the last strangers whose nodes are known, by id; guarded by mu
	heard   uint64               // how often strangers were heard of; guarded by mu
	removed map[uint64]time.Time // strangers of which the application has said that they were removed, and when it did last; guarded by mu
	queued  map[queuedKey]queued // messages of strangers that were given to an inbox and are not processed yet; nil: none; guarded by mu
}

// earlier is what the messages of a replica wait for.
type earlier struct {
	calls  []<-chan struct{}              // closed when calls of Process for an earlier replica with its id have returned
	queued map[queue.Kind]<-chan struct{} // closed when the call for a message of the kind has returned that it sent as a stranger
}

// more is called with mu held.
func (s *sender) more() *rareOfSender {
	if s.rare.Load() == nil {
		s.rare.Store(new(rareOfSender))
	}
	return s.rare.Load()
}

// known returns the last strangers, by id. It is called with mu held.
func (s *sender) known() map[uint64]*stranger {
	if more := s.rare.Load(); more != nil {
		return more.known
	}
	return nil
}

// init makes s the sender of messages of the group, within these shares.
func (s *sender) init(g *Group, shares *[queue.Kinds]*fair.Share) {
	s.group, s.shares = g, shares
	s.control = fair.Inbox{Group: g.id, Owner: s, Share: shares[queue.Control]}
}

// box returns the inbox of a kind, or nil if the sender has ended.
func (s *sender) box(k queue.Kind) *fair.Inbox {
	if k == queue.Control {
		return &s.control
	}
	if others := s.others.Load(); others != nil {
		return &others[k-1]
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return nil
	}
	others := s.others.Load()
	if others == nil {
		others = new(otherInboxes)
		for i := range others {
			others[i] = fair.Inbox{Group: s.group.id, Owner: s, Share: s.shares[i+1]}
		}
		s.others.Store(others)
	}
	return &others[k-1]
}

// existing returns the inbox of a kind, or nil if nothing was ever received that needs it.
func (s *sender) existing(k queue.Kind) *fair.Inbox {
	if k == queue.Control {
		return &s.control
	}
	if others := s.others.Load(); others != nil {
		return &others[k-1]
	}
	return nil
}

// setEnded is called with mu held: contexts of Process end.
func (s *sender) setEnded() {
	if more := s.rare.Load(); !s.ended && more != nil && more.done != nil {
		close(more.done)
	}
	s.ended = true
}

// end drops the messages that wait, and returns channels that are closed when running calls of Process have returned.
func (s *sender) end() (running []<-chan struct{}) {
	s.mu.Lock()
	s.setEnded()
	s.forget()
	s.mu.Unlock()
	for k := range queue.Kinds {
		if in := s.existing(k); in != nil {
			left, returned := s.group.groups.pools[k].Remove(in)
			s.group.drop(len(left), errs.ErrPeerRemoved) // the node is well: it has no part in this
			for i := range left {
				s.group.groups.refuseWaiting(left[i].Msg, errs.ErrPeerRemoved)
			}
			running = append(running, returned)
		}
	}
	return running
}
