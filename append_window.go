package rafthttp

import (
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// appendWindow keeps copies of appends out of a send queue.
//
// Raft's window of appends in flight may be larger than the queue. What finds no
// room is dropped, and raft, told that the peer is unreachable, goes back to the
// entry behind the last that the follower acknowledged. Most of what it sends
// then is still queued, or on the line. Were that queued again, each acknowledgement
// would bring forth the next copy, and the line would carry little else.
//
// So the window remembers which entries the stream has accepted: (start, last] of
// one leader's term, which never change. It has three states:
//
//	open      appends are accepted while there is room
//	draining  one found none: those behind it, which the follower could only reject,
//	          are withheld: dropped and counted, but raft is not told
//	resuming  half of the queue has drained, and raft was told: it sends again from
//	          what was acknowledged. Entries up to last are duplicates, which are
//	          skipped; the append that continues at last opens the window
//
// Duplicates are skipped until the peer has acknowledged what the queue held. A
// rejected append, the end of the stream, a snapshot that the peer has taken, or no
// acknowledgement for the read timeout after all was written end this: raft is told, and
// the window begins anew with what it sends then.
//
// A group whose messages carry a Context may share the queue. Its traffic, which the
// window does not track, counts for nothing: its writes are no progress of the tracked
// appends, and what it has queued is no reason to wait, for expiry or for half of the
// queue to drain. Otherwise it could hold up the tracked group without end.
//
// It is guarded by the lock of its lane; active is for those who do not hold it.
type appendWindow struct {
	term, from  uint64 // of the leader; 0: the window is empty
	start, last uint64 // entries (start, last] were accepted

	closed  bool   // draining or resuming
	owed    bool   // raft has not been told what was withheld
	probing bool   // an append was rejected, and none was acknowledged since
	until   uint64 // entries up to it are duplicates; 0: none are
	acked   uint64 // highest index that the peer acknowledged
	mark    load   // draining ends when the queue holds no more appends

	progress time.Duration // the lane's clock at the last write of tracked appends, or acknowledgement
	timeout  time.Duration // how long to wait for the next

	active atomic.Bool // closed, owed or until
}

func newAppendWindow(timeout time.Duration) *appendWindow {
	return &appendWindow{timeout: timeout}
}

// tracks reports whether m is an append of raft as its leader makes it: nothing in it
// says that it could belong to another log than the one before it.
func tracks(m *raftpb.Message) bool {
	return m.GetType() == raftpb.MsgApp && m.Context == nil && m.Snapshot == nil && len(m.Responses) == 0 &&
		m.Vote == nil && m.Reject == nil && m.RejectHint == nil && !wire.HasUnknownFields(m)
}

// check says whether m may be queued: accepted, withheld or duplicate. What it returns
// is to be queued in place of m.
func (w *appendWindow) check(m *raftpb.Message) (*raftpb.Message, verdict) {
	prev := m.GetIndex()
	if m.GetTerm() != w.term || m.GetFrom() != w.from || prev < w.start {
		w.restart(m)
		return m, accepted
	}
	next := prev + uint64(len(m.Entries))
	switch {
	case len(m.Entries) > 0 && next <= w.until:
		return m, duplicate
	case w.closed && (w.owed || prev > w.last):
		return m, withheld
	case prev < w.until && w.until < next:
		return behind(m, int(w.until-prev)), accepted
	default:
		return m, accepted
	}
}

// behind returns the append m without its first n entries. A follower that has
// committed one of these would ignore the others as well.
func behind(m *raftpb.Message, n int) *raftpb.Message {
	return &raftpb.Message{
		Type: m.Type, To: m.To, From: m.From, Term: m.Term, Commit: m.Commit,
		LogTerm: new(m.Entries[n-1].GetTerm()), Index: new(m.GetIndex() + uint64(n)), Entries: m.Entries[n:],
	}
}

// restart empties the window, with what m continues at its end.
func (w *appendWindow) restart(m *raftpb.Message) {
	w.term, w.from = m.GetTerm(), m.GetFrom()
	w.start, w.last, w.acked = m.GetIndex(), m.GetIndex(), 0
	w.clear()
}

// clear ends what is withheld or skipped, but for the report that is owed.
func (w *appendWindow) clear() {
	w.closed, w.until = false, 0
	w.update()
}

func (w *appendWindow) update() {
	if on := w.closed || w.owed || w.until > 0; w.active.Load() != on {
		w.active.Store(on)
	}
}

// reset forgets everything: the stream has ended, which raft is told.
func (w *appendWindow) reset() {
	w.term, w.owed, w.probing = 0, false, false
	w.clear()
}

// add notes that m was queued.
func (w *appendWindow) add(m *raftpb.Message) {
	if m.GetIndex() > w.last {
		w.start = m.GetIndex() // raft went on behind a snapshot
	}
	w.last = max(w.last, m.GetIndex()+uint64(len(m.Entries)))
	if w.probing {
		w.until = w.last
	}
	if w.closed || w.probing {
		w.closed = false
		w.update()
	}
}

// overflow notes that the queue had no room for m. It reports false if the queue holds
// no tracked append, whose writing could be waited for: then raft is to be told at once.
func (w *appendWindow) overflow(m *raftpb.Message, q *queue) bool {
	if q.tracked.messages == 0 {
		return false
	}
	if m.GetIndex() > w.last {
		w.start, w.last = m.GetIndex(), m.GetIndex() // raft went on behind a snapshot
	}
	w.closed, w.owed, w.until = true, true, w.last
	w.mark = load{q.tracked.messages / 2, q.tracked.bytes / 2}
	w.update()
	return true
}

// drained notes what the queue holds after tracked appends were written, and reports whether
// raft must be told now. It is called while the window is active.
func (w *appendWindow) drained(q *queue, now time.Duration) bool {
	w.progress = now
	if !w.owed || q.tracked.bytes > w.mark.bytes || q.tracked.messages > w.mark.messages {
		return false
	}
	w.owed = false
	w.update()
	return true
}

// answer takes in the peer's MsgAppResp, and reports whether raft must be told now.
func (w *appendWindow) answer(m *raftpb.Message, now time.Duration) bool {
	if m.GetTerm() != w.term {
		return false
	}
	if m.GetReject() {
		if i := m.GetIndex(); i < w.start || i > w.last {
			return false // of what was queued before the window began
		}
		// Something was lost. Raft sends again what follows the last acknowledged entry,
		// once with each heartbeat, while it waits behind what will be rejected as well.
		w.term, w.probing = 0, true
		return w.settle()
	}
	if i := m.GetIndex(); i > w.acked {
		w.acked, w.progress = i, now
		if i >= w.until {
			w.until, w.probing = 0, false
		}
		if i >= w.last {
			return w.settle()
		}
		w.update()
	}
	return false
}

// expired reports whether raft must be told now, since no tracked append is queued and
// nothing was acknowledged for too long.
func (w *appendWindow) expired(q *queue, now time.Duration) bool {
	if q.tracked.messages > 0 || now-w.progress < w.timeout || !w.active.Load() {
		return false
	}
	w.term, w.owed, w.probing, w.progress = 0, true, false, now
	return w.settle()
}

// snapshotTaken notes that the peer has taken a snapshot, and reports whether raft must be
// told now. Raft goes on behind the snapshot once it knows, from the end of the transfer:
// the peer's answer may be lost.
func (w *appendWindow) snapshotTaken() bool {
	w.term, w.probing = 0, false
	return w.settle()
}

// settle ends what is withheld or skipped, and reports whether raft must be told.
func (w *appendWindow) settle() bool {
	owed := w.owed
	w.owed = false
	w.clear()
	return owed
}

// answered has the lane's window take in a MsgAppResp of the peer. It costs next to
// nothing while all appends find room.
func (l *lane) answered(m *raftpb.Message) {
	if l.window == nil || !l.window.active.Load() {
		return
	}
	l.mu.Lock()
	due := l.window.answer(m, time.Since(l.born))
	l.mu.Unlock()
	if due {
		l.drained()
	}
}

// forget empties the lane's window: something that it took is lost, which raft is told.
func (l *lane) forget() {
	if l.window == nil {
		return
	}
	l.mu.Lock()
	l.window.reset()
	l.mu.Unlock()
}

// snapshotTaken has the lane's window begin anew: the peer has taken a snapshot.
func (l *lane) snapshotTaken() {
	if l.window == nil {
		return
	}
	l.mu.Lock()
	due := l.window.snapshotTaken()
	l.mu.Unlock()
	if due {
		l.drained()
	}
}

// expireWindow is called regularly.
func (l *lane) expireWindow() {
	if l.window == nil || !l.window.active.Load() {
		return
	}
	l.mu.Lock()
	due := l.window.expired(l.appends(), time.Since(l.born))
	l.mu.Unlock()
	if due {
		l.drained()
	}
}
