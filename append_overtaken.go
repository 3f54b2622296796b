package rafthttp

import "go.etcd.io/raft/v3/raftpb"

// overtaken says which appends a snapshot that the peer has taken leaves without use:
// those of its sender, of no later term, all of whose entries it covers. A follower
// answers them with what it has anyway, and raft no longer waits for these answers:
// it has begun anew behind the snapshot.
//
// They may be many: a follower gets a snapshot because it is far behind, and on a slow
// line what was queued before it would hold up what follows it for as long again, until
// the follower needs the next snapshot.
type overtaken struct{ from, term, index uint64 }

// overtakenBy returns nil for a snapshot of one of several groups that share the
// transport.
func overtakenBy(m *raftpb.Message) *overtaken {
	if m.Context != nil {
		return nil
	}
	return &overtaken{m.GetFrom(), m.GetTerm(), m.GetSnapshot().GetMetadata().GetIndex()}
}

// contains reports whether it is of them. An append without entries is not: raft may
// probe with it at the very end of the snapshot.
func (o *overtaken) contains(it item) bool {
	n := uint64(len(it.m.Entries))
	return it.tracked() && n > 0 && it.m.GetIndex()+n <= o.index &&
		it.m.GetTerm() <= o.term && it.m.GetFrom() == o.from
}

// snapshotTaken drops the appends that the snapshot m, which the peer has taken, has
// overtaken, and has the lane's window begin anew. One of another group says nothing of them.
func (l *lane) snapshotTaken(m *raftpb.Message) {
	o := overtakenBy(m)
	if l.window == nil || o == nil {
		return
	}
	l.mu.Lock()
	removed := l.appends().remove(o.contains)
	l.Duplicate(removed.messages)
	l.queued -= removed.messages
	l.held -= removed.messages
	l.heldBytes -= removed.bytes
	l.reservation.Release(l.heldBytes, l.closed || l.held == 0)
	if len(l.hands) > 0 {
		l.overtaken.Store(o)
	}
	l.wake()
	due := l.window.snapshotTaken()
	l.mu.Unlock()
	if due {
		l.onDrained()
	}
}

// skipOvertaken releases those at the head of what a worker has taken that a snapshot has
// overtaken since, and returns how many.
func (l *lane) skipOvertaken(items []item) (n int) {
	o := l.overtaken.Load()
	if o == nil {
		return 0
	}
	for n < len(items) && o.contains(items[n]) {
		n++
	}
	l.Duplicate(n)
	l.release(items[:n], items[n:])
	return n
}

// remove takes out what waits and is gone by this verdict, and returns its load.
func (q *fifo) remove(gone func(item) bool) load {
	kept := q.items[:q.head]
	var removed []item
	for _, it := range q.items[q.head:] {
		if gone(it) {
			removed = append(removed, it)
		} else {
			kept = append(kept, it)
		}
	}
	clear(q.items[len(kept):])
	if q.items = kept; q.len() == 0 {
		q.items, q.head = q.items[:0], 0
	}
	all, tracked := measure(removed)
	q.release(all, tracked)
	return all
}
