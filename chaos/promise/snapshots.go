package promise

import (
	"bytes"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/snap"
)

// transfer is a snapshot that was given to SendSnapshot.
type transfer struct {
	*snap.Message
	index   uint64
	term    uint64
	w       *way
	sender  *member
	replica *replica // that sends it; nil: it is of the members themselves
	size    int
	source  string
	given   time.Duration // to SendSnapshot
	began   time.Duration
	due     time.Duration // when it has to have arrived; 0: it does not have to

	closes   atomic.Int32
	look     sync.Mutex // guards the next two
	values   int        // from CloseNotify
	finished bool       // the first of them
	over     bool       // it has ended; owned by the goroutine of Run
	taken    bool       // its message was processed, and the database was whole; guarded by simulation.mu
}

// sendSnapshot sends a snapshot, with a database that is read as source says.
func (m *member) sendSnapshot(w *way, size int, source string) {
	s := m.s
	last, term := s.lastAppend(w)
	s.mu.Lock()
	if source != "twin" {
		s.nextIndex(last, term)
	}
	t := &transfer{index: s.index, term: s.indexTerm, w: w, sender: m, size: size, source: source, given: s.now(), began: s.now()}
	s.transfers = append(s.transfers, t)
	s.mu.Unlock()
	t.due = s.dueOf(t)
	s.fill(w, size)
	s.changed(w)
	s.book.mu.Lock()
	w.snapshots.given++
	w.moving++
	s.book.mu.Unlock()
	msg := s.snapshotMessage(w, t.index, t.term)
	t.Message = snap.NewMessage(msg, t.reader(s.book.content(t.index, size)), int64(size))
	if more := map[string]int64{"short": +1, "long": -1}[source]; more != 0 { // than the reader has
		t.Message = snap.NewMessage(msg, t.ReadCloser, int64(size)+more)
	}
	s.count("snapshots sent")
	began := time.Now()
	m.SendSnapshot(t.Message)
	s.checked("send")
	if took := time.Since(began); took > 0 {
		s.violate("send", "SendSnapshot of member %d took %v", m.id, took)
	}
	if source == "twins" {
		m.sendSnapshot(w, size, "twin")
	}
}

// post gives Send a MsgSnap without a database, which is posted.
func (m *member) post(w *way) {
	s := m.s
	last, term := s.lastAppend(w)
	s.mu.Lock()
	s.nextIndex(last, term)
	index := s.index
	s.mu.Unlock()
	s.changed(w)
	s.book.mu.Lock()
	w.snapshots.posted++
	s.book.mu.Unlock()
	s.crowded(w, 4*readTime) // it may fail
	m.send(s.snapshotMessage(w, index, term))
}

// lastAppend returns the number of the last append that was sent, and its term.
func (s *simulation) lastAppend(w *way) (n, term uint64) {
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	return uint64(len(w.msgs[appends]) - 1), w.term
}

// nextIndex makes the index of the next snapshot, which has all appends that were sent until now but a few, as that of raft, or
// more, if others have more. It is called with mu held.
func (s *simulation) nextIndex(last, term uint64) {
	s.indexTerm = term
	if few := s.index % 8; last > few {
		last -= few
	}
	s.index = max(s.index+1, last)
}

// cover notes that a snapshot was processed: appends that it has, and that wait, are of no use any more once its sender knows.
func (s *simulation) cover(w *way, index uint64) {
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	w.covered, w.coverAt = max(w.covered, index), s.now()+2*readTime
}

func (s *simulation) snapshotMessage(w *way, index, term uint64) *raftpb.Message {
	return &raftpb.Message{
		Type: raftpb.MsgSnap.Enum(), From: new(w.fromID), To: new(w.toID), Term: new(term),
		Snapshot: &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
			Index: new(index), Term: new(uint64(1)), ConfState: &raftpb.ConfState{Voters: s.ids()},
		}},
	}
}

// dueOf returns when a transfer has to have arrived, or 0. It is called when it begins.
func (s *simulation) dueOf(t *transfer) time.Duration {
	to := s.member(t.w.to)
	switch {
	case !s.inTime(), to == nil, !s.mayArrive(t), to.full.Load(), to.opt.Saver == "none" && t.replica == nil, s.noDial(t.w.from, t.w.to) != nil,
		t.source == "short", t.source == "long", t.source == "panics", t.source == "stalls":
		return 0
	case t.replica != nil && strings.HasPrefix(t.source, "twin") && to.opt.MaxSnapshots > 0:
		return 0 // they cannot seek, and may ask for the last place at the same time
	}
	hang := to.opt.DiskHang + to.saving.left() + to.machine.process[appends].left()
	if hang > 0 && (to.opt.AnswerTimeout > 0 || t.sender.opt.AnswerTimeout > 0) {
		return 0
	}
	if hang > 3*time.Second && (to.opt.Stock || to.opt.Wrapper != "" || t.sender.opt.Stock) {
		return 0 // who cannot be told that the disk is at work gives up
	}
	bytes := 0
	for _, other := range s.transfers {
		if other.w.to == t.w.to || other.w.from == t.w.from || s.isNarrow() {
			if (other.index != t.index || other.w.group != t.w.group) && !other.over {
				return 0 // it may have to wait, or be refused
			}
			if other != t && other.w.to == t.w.to && to.opt.MaxSnapshots > 0 && to.opt.DiskHang > 0 && s.now()-other.began < to.opt.DiskHang+time.Minute {
				return 0 // its sender has given up, but the disk has not, and it keeps its place
			}
		}
	}
	bytes += t.size
	if s.isNarrow() && s.crowds(t.w) {
		return 0
	}
	d := s.now() + hang + 15*time.Second + 40*s.plan.Delay
	for _, rate := range []int{s.plan.Rate, t.sender.opt.SnapshotRate} {
		if rate > 0 {
			d += 3 * time.Duration(bytes) * time.Second / time.Duration(rate)
		}
	}
	if sockets := s.plan.Sockets; sockets != (Buffers{}) { // a buffer is free again a round trip later
		d += 2 * s.plan.Delay * time.Duration(bytes/min(sockets.Send, sockets.Receive))
	}
	if t.source == "close hangs" {
		d += closeTime
	}
	if strings.HasPrefix(t.source, "slow") {
		d += time.Duration(t.size/slowChunk+1) * slowRead
	}
	return d
}

// crowds reports whether more is on a line, either way, than it carries at once.
func (s *simulation) crowds(w *way) bool {
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	back := s.book.back(w)
	return s.now() < w.crowd || (back != nil && s.now() < back.crowd) || (w.link != nil && s.now() < w.link.crowd)
}

// lookAtTransfers looks at all that have not ended.
func (s *simulation) lookAtTransfers() {
	now := s.now()
	for _, t := range s.transfers {
		if t.over {
			continue
		}
		s.lookAtEnd(t)
		t.look.Lock()
		t.over = t.values > 0
		t.look.Unlock()
		s.book.mu.Lock()
		if t.over {
			t.w.moving--
			t.w.crowd = max(t.w.crowd, now+time.Second)
		}
		if back := s.book.back(t.w); !t.w.well(t.began) || (back != nil && !back.well(t.began)) {
			t.due = 0 // something was in the way
		}
		s.book.mu.Unlock()
		if to := s.member(t.w.to); t.replica != nil && to != nil && to.opt.NoKeepAlive {
			t.due = 0 // a group's needs a connection for several requests
		}
		switch {
		case t.due == 0 && !t.over && t.source == "stalls" && now-t.began > stallTime:
			s.violate("snapshot ends", "snapshot %d from %d to %d stands still for %v, and has not ended", t.index, t.w.from, t.w.to, now-t.began)
		case t.due == 0:
		case t.over:
			s.checkedOf(t.w, "snapshot arrives")
			if !t.finished {
				s.violate("snapshot arrives", "snapshot %d from %d to %d, of %d bytes, failed on a link that is well", t.index, t.w.from, t.w.to, t.size)
			}
		case now > t.due:
			s.violate("snapshot arrives", "snapshot %d from %d to %d, of %d bytes, has not arrived after %v", t.index, t.w.from, t.w.to, t.size, now-t.began)
		}
	}
}

// lookAtEnd looks how a transfer ended, if it has.
func (s *simulation) lookAtEnd(t *transfer) {
	t.look.Lock()
	defer t.look.Unlock()
	for t.Message != nil {
		select {
		case ok := <-t.CloseNotify():
			if t.values++; t.values == 1 {
				t.finished = ok
				s.noteEnd(t)
			}
			continue
		default:
		}
		break
	}
	s.checked("snapshot ends")
	if closes := t.closes.Load(); t.values > 1 || closes > 1 || (t.values == 1 && closes == 0) {
		s.violate("snapshot ends", "snapshot %d from %d to %d: %d values from CloseNotify, %d calls of Close", t.index, t.w.from, t.w.to, t.values, closes)
	}
}

// noteEnd looks at a transfer whose CloseNotify has had its value.
func (s *simulation) noteEnd(t *transfer) {
	b := s.book
	b.mu.Lock()
	switch {
	case t.isSettled(): // its Close has hung since before Stop
	case t.finished:
		t.w.snapshots.said++
	default:
		t.w.snapshots.denied++
	}
	b.mu.Unlock()
	s.mu.Lock()
	taken := t.taken
	s.mu.Unlock()
	if t.finished {
		s.checkedOf(t.w, "snapshot bytes")
		if !taken {
			s.violate("snapshot bytes", "the sender is told that snapshot %d from %d to %d was sent, and its message was not processed", t.index, t.w.from, t.w.to)
		}
		return
	}
	s.count("snapshots failed")
}

// lookAtEnds looks whether all that a member has begun to send has ended, once it has stopped.
func (s *simulation) lookAtEnds(m *member) { s.lookAtEndsOf(m, nil) }

// isSettled reports whether the sender has stopped, and its transfers were looked at.
func (t *transfer) isSettled() bool {
	return t.sender.settled.Load() || (t.replica != nil && t.replica.settled.Load())
}

// lookAtEndsOf does it for a replica, or, if that is nil, for what the member itself has sent.
func (s *simulation) lookAtEndsOf(m *member, r *replica) {
	s.mu.Lock()
	transfers := append([]*transfer(nil), s.transfers...)
	s.mu.Unlock()
	silent := map[*way]int{} // whose Close hangs, and that say nothing before it returns
	for _, t := range transfers {
		if t.sender != m || t.replica != r {
			continue
		}
		s.lookAtEnd(t)
		if t.values == 0 {
			silent[t.w]++
		}
		if t.values != 1 && (t.source != "close hangs" || t.closes.Load() != 1) {
			s.violate("snapshot ends", "snapshot %d from %d to %d has not ended when Stop returns", t.index, t.w.from, t.w.to)
		}
	}
	b := s.book
	ways := b.all
	if r == nil {
		m.settled.Store(true)
	} else {
		r.settled.Store(true)
		ways = s.inGroup(r.group, m.id)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, w := range ways {
		if w.from != m.id {
			continue
		}
		e := w.snapshots
		w.snapshots = ends{}
		s.checkedOf(w, "snapshot ends")
		posted := e.finished - e.said // of those that were posted
		if e.finished+e.failed != e.given+e.posted || posted < 0 || posted > e.posted+silent[w] {
			s.violate("snapshot ends", "of %d snapshots from %d to %s, and %d that were posted, %d are reported as sent and %d as failed; CloseNotify said so of %d and %d",
				e.given, w.from, w.receiver(), e.posted, e.finished, e.failed, e.said, e.denied)
		}
	}
}

// installed is Process of the message of a snapshot.
func (s *simulation) installed(m *member, w *way, msg *raftpb.Message) error {
	index := msg.GetSnapshot().GetMetadata().GetIndex()
	s.cover(w, index)
	s.mu.Lock()
	var t *transfer
	for _, other := range s.transfers {
		if other.index == index && other.replica == nil {
			t = other
		}
	}
	s.mu.Unlock()
	if t == nil {
		return nil // it was posted, without a database
	}
	db, err := m.database(index)
	s.checked("snapshot bytes")
	if err != nil || !bytes.Equal(db, s.book.content(index, t.size)) {
		s.violate("snapshot bytes", "member %d processes snapshot %d of %d, and its database has %d bytes of %d, or others: %v", m.id, index, w.from, len(db), t.size, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, other := range s.transfers {
		other.taken = other.taken || (other.index == index && other.replica == nil)
	}
	return nil
}

// observed notes that the Observer of the sender is told of the end of a snapshot: once for each call of SendSnapshot.
func (s *simulation) observed(index uint64) {
	s.mu.Lock()
	s.ends[index]++
	told, given := s.ends[index], 0
	for _, t := range s.transfers {
		if t.index == index && t.replica == nil {
			given++
		}
	}
	s.mu.Unlock()
	if told > given {
		s.violate("snapshot ends", "SnapshotSent is called %d times for snapshot %d, which was sent %d times", told, index, given)
	}
}
