package queue

import "go.etcd.io/raft/v3/raftpb"

// overtaken selects the appends that a snapshot accepted by the peer makes useless:
// those of its sender, of no later term, whose entries it covers completely. A follower
// only answers them with entries that it has, and raft no longer waits for these answers:
// it continues after the snapshot.
//
// They may be many: a follower gets a snapshot because it is far behind. On a slow
// line appends queued before it would delay those after it for as long again, until
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

// contains reports whether it is overtaken. An append without entries is not: raft may
// probe with it at the very end of the snapshot.
func (o *overtaken) contains(it Item) bool {
	n := uint64(len(it.Msg.Entries))
	return it.tracked() && n > 0 && it.Msg.GetIndex()+n <= o.index &&
		it.Msg.GetTerm() <= o.term && it.Msg.GetFrom() == o.from
}

// SnapshotTaken drops the appends overtaken by the snapshot m, which the peer has accepted,
// and resets the window. A snapshot of another group has no effect on them.
func (q *Queue) SnapshotTaken(m *raftpb.Message) {
	o := overtakenBy(m)
	if q.window == nil || o == nil {
		return
	}
	q.mu.Lock()
	removed := q.appends().remove(o.contains)
	q.appends().noteFull(&q.cfg.Limits)
	q.duplicates.Add(uint64(removed.messages))
	q.queued -= removed.messages
	q.held -= removed.messages
	q.heldBytes -= removed.bytes
	q.reservation.Release(q.heldBytes, q.closed || q.held == 0)
	if len(q.hands) > 0 {
		q.overtaken.Store(o)
	}
	q.signalRoom()
	due := q.window.snapshotTaken()
	q.mu.Unlock()
	if due {
		q.onDrained()
	}
}

// SkipOvertaken releases the items at the head of a worker's batch that a snapshot has
// overtaken since, and returns their number.
func (q *Queue) SkipOvertaken(items []Item) (n int) {
	o := q.overtaken.Load()
	if o == nil {
		return 0
	}
	for n < len(items) && o.contains(items[n]) {
		n++
	}
	q.duplicates.Add(uint64(n))
	q.Release(items[:n], items[n:])
	return n
}

// remove removes the waiting items selected by gone, and returns their load.
func (f *fifo) remove(gone func(Item) bool) load {
	kept := f.items[:f.head]
	var removed []Item
	for _, it := range f.items[f.head:] {
		if gone(it) {
			removed = append(removed, it)
		} else {
			kept = append(kept, it)
		}
	}
	clear(f.items[len(kept):])
	if f.items = kept; f.len() == 0 {
		f.items, f.head = f.items[:0], 0
	}
	all, tracked := measure(removed)
	f.release(all, tracked)
	return all
}
