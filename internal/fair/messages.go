package fair

import "go.etcd.io/raft/v3/raftpb"

// node is a message that waits in a list.
type node struct {
	next  *node
	msg   *raftpb.Message
	size  int64
	units int32 // of places
}

// messages is a list of messages in order.
type messages struct{ first, last *node }

func (l *messages) push(n *node) {
	if l.first == nil {
		l.first = n
	} else {
		l.last.next = n
	}
	l.last = n
}

// pop returns the first node of a list that is not empty.
func (l *messages) pop() *node {
	n := l.first
	if l.first = n.next; l.first == nil {
		l.last = nil
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

func (s *nodes) get(m *raftpb.Message, size int64, units int32) *node {
	s.used++
	s.most = max(s.most, s.used)
	n := s.free
	if n == nil {
		return &node{msg: m, size: size, units: units}
	}
	s.free = n.next
	s.unused--
	*n = node{msg: m, size: size, units: units}
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
