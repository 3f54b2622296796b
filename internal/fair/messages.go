package fair

import "go.etcd.io/raft/v3/raftpb"

// node is a message that waits in a list.
type node struct {
	next      *node
	msg       *raftpb.Message
	size      int64
	at        stamp
	coalesced bool
}

// messages is a list of messages in order. The zero value is empty.
type messages struct {
	last *node // whose next is the first
}

func (l *messages) push(n *node) {
	l.pushFront(n)
	l.last = n
}

func (l *messages) pushFront(n *node) {
	if l.last == nil {
		l.last = n
	} else {
		n.next = l.last.next
	}
	l.last.next = n
}

// pop returns the first node of a list that is not empty.
func (l *messages) pop() *node {
	n := l.last.next
	if n == l.last {
		l.last = nil
	} else {
		l.last.next = n.next
	}
	return n
}

// nodes keeps unused nodes, so that messages cost no allocation. It is guarded by the lock of the queue.
type nodes struct {
	free   *node
	unused int // number of free nodes
	used   int // number of nodes in lists
	most   int // the most in lists since the last trim
}

func (s *nodes) get(m *raftpb.Message, size int64, at stamp, coalesced bool) *node {
	s.used++
	s.most = max(s.most, s.used)
	n := s.free
	if n == nil {
		return &node{msg: m, size: size, at: at, coalesced: coalesced}
	}
	s.free = n.next
	s.unused--
	*n = node{msg: m, size: size, at: at, coalesced: coalesced}
	return n
}

func (s *nodes) put(n *node) {
	*n = node{next: s.free}
	s.free = n
	s.used--
	s.unused++
}

// trim frees the nodes that were not needed since the last call.
func (s *nodes) trim() {
	for keep := s.most - s.used; s.unused > keep; s.unused-- {
		s.free = s.free.next
	}
	s.most = s.used
}
