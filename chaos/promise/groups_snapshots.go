package promise

import (
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/snap"
)

// sendSnapshot sends a snapshot of a group, with a database that is read as source says. Indexes of a group begin at 1: other groups
// have the same.
func (r *replica) sendSnapshot(w *way, size int, source string) {
	s := r.s
	s.mu.Lock()
	s.groupIndex[r.group]++
	index := s.groupIndex[r.group]
	if source == "twins" {
		for _, n := range s.groupIndex {
			index = max(index, n)
		}
		s.groupIndex[r.group] = index
	}
	if source == "twin" {
		s.groupIndex[r.group] = s.twin
		index = s.twin
	}
	s.twin = index
	t := &transfer{index: index, term: 1, w: w, sender: r.m, replica: r, size: size, source: source, given: s.now(), began: s.now()}
	s.transfers = append(s.transfers, t)
	s.mu.Unlock()
	t.due = s.dueOf(t)
	s.fill(w.link, size)
	s.book.mu.Lock()
	w.snapshots.given++
	w.moving++
	s.book.mu.Unlock()
	msg := s.snapshotMessage(w, t.index, t.term)
	t.Message = snap.NewMessage(msg, t.reader(s.book.content(w.key(index), size)), int64(size))
	s.count("groups: snapshots sent")
	began := time.Now()
	r.SendSnapshot(t.Message)
	s.checked("send")
	if took := time.Since(began); took > 0 {
		s.violate("send", "SendSnapshot of group %d, member %d took %v", r.group, r.m.id, took)
	}
	if next := r.group%uint64(len(s.plan.Groups)) + 1; source == "twins" && next != r.group {
		other, beside := s.replica(next, r.m.id), s.book.wayOf(next, w.from, w.to)
		if other != nil && s.isPeer(beside) && s.groupIndex[next] < index {
			s.count("groups: equal snapshots")
			other.sendSnapshot(beside, size, "twin")
		}
	}
}

// post gives Send a MsgSnap without a database, which is posted.
func (r *replica) post(w *way) {
	s := r.s
	s.mu.Lock()
	s.groupIndex[r.group]++
	index := s.groupIndex[r.group]
	s.mu.Unlock()
	s.book.mu.Lock()
	w.snapshots.posted++
	s.book.mu.Unlock()
	s.crowded(w, 4*readTime) // it may fail
	msg := s.snapshotMessage(w, index, 1)
	r.send([]*raftpb.Message{msg})
}

// mayArrive reports whether the receiver of a snapshot of a group can take it.
func (s *simulation) mayArrive(t *transfer) bool {
	if t.replica == nil {
		return true
	}
	from := s.member(t.w.from)
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	st := s.seat(t.w.group, t.w.to)
	return from != nil && !from.opt.Stock && st.now != nil && st.now.id == t.w.toID && st.plan.Saver != "none" && st.process[appends].left() == 0 && st.slow.left() == 0 &&
		t.w.well(s.now())
}
