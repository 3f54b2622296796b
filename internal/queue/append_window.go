package queue

import (
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// appendWindow keeps copies of appends out of a send queue.
//
// Raft's window of appends in flight may be larger than the queue. Appends without
// room are dropped, and raft, told that the peer is unreachable, goes back to the
// entry after the last that the follower acknowledged. Most appends that it sends
// then are still queued, or in transit. If they were queued again, each acknowledgement
// would cause the next copy, and the line would carry little else. And while
// raft probes a follower, for any reason, it sends the same append with each
// heartbeat until it is acknowledged: on a slow line the queue would fill with copies.
//
// So the window remembers which entries the stream has accepted: (start, last] of
// one leader's term, which never change. Entries that the peer has not
// acknowledged are queued or in transit, and raft's copies of them are skipped: all of
// them, as long as an append is withheld, or was skipped and is not acknowledged, and else
// only those that end where the append before them ended, as probes do. If raft sends
// earlier ones again without such a cause, it has a reason that is not visible here.
//
// New appends are handled in one of three states:
//
//	open      appends are accepted while there is room
//	draining  an append had no room: those after it, which the follower could only reject,
//	          are withheld: dropped and counted, but raft is not told
//	resuming  half of the queue has drained, and raft was told: it sends again from
//	          the acknowledged entries. The append that continues at last opens the window
//
// Entries may have been lost in transit, so no append is skipped or withheld forever.
// Raft is told, and the window restarts with the appends that it sends then, when
//   - the stream ends, or a POST fails;
//   - the follower rejects an append: raft goes back by itself, and withheld appends are
//     reported;
//   - the peer has accepted a snapshot;
//   - no append of the window has been acknowledged for the read timeout since the last of
//     it was written.
//
// A skipped copy may carry a newer commit index, which raft considers sent. The follower
// learns it from the next append that is not skipped, or the next of raft's heartbeats
// after the acknowledgement of the entries. The leader counts acknowledgements, so
// no commit waits for that.
//
// A group whose messages carry a Context may share the queue. The window does not track
// its appends, since they may mix indexes of several groups, so their copies
// cannot be recognized. If one has no room all are withheld until none is queued any more: when
// raft is told by then, only appends in transit are sent twice.
//
// Their traffic does not affect the tracked appends: their writes are not progress of the
// tracked ones, and their queued appends are no reason to wait, for expiry or for half of the
// queue to drain. Otherwise they could delay the tracked group without end.
//
// It is guarded by the lock of its queue; term, acked and active are read without it, so
// that an acknowledgement takes no lock while nothing depends on it.
type appendWindow struct {
	term        atomic.Uint64 // of the leader; 0: the window is empty
	from        uint64
	start, last uint64 // entries (start, last] were accepted
	end         uint64 // of the last accepted append with entries; start if there was none since

	closed  bool   // draining or resuming
	owed    bool   // raft has not been told of the withheld appends
	skipped uint64 // the last skipped entry, until it is acknowledged; 0: none
	drainTo load   // draining ends when the queue holds no more tracked appends

	others bool // raft has not been told of withheld untracked appends

	progress time.Duration // the clock of the queue at the last write of tracked appends, or acknowledgement
	timeout  time.Duration // how long to wait for the next

	acked  atomic.Uint64 // highest index that the peer acknowledged
	active atomic.Bool   // closed, owed or skipped: acknowledgements, and their absence, matter
}

func newAppendWindow(timeout time.Duration) *appendWindow {
	return &appendWindow{timeout: timeout}
}

// IsAppend reports whether m is a MsgApp.
func IsAppend(m *raftpb.Message) bool { return m.GetType() == raftpb.MsgApp }

// tracks reports whether m is an append as raft's leader makes it: nothing in it
// says that it could belong to another log than the one before it.
func tracks(m *raftpb.Message) bool {
	return IsAppend(m) && m.Context == nil && m.Snapshot == nil && len(m.Responses) == 0 &&
		m.Vote == nil && m.Reject == nil && m.RejectHint == nil && !wire.HasUnknownFields(m)
}

// checkItem is check for the item of an append, tracked or not.
func (w *appendWindow) checkItem(it Item, now time.Duration) (Item, Verdict) {
	if !tracks(it.Msg) {
		if w.others {
			return it, Withheld
		}
		return it, Accepted
	}
	if it.ticket = windowTracks; w.continuedBy(it.Msg) {
		return it, Accepted
	}
	m, v := w.check(it.Msg, now)
	if m != it.Msg {
		it.Msg, it.Size = m, wire.MemorySize(m)
	}
	return it, v
}

// continuedBy reports whether m continues at the end of the window, or at the end of the last
// append, and check has no reason to refuse or shorten it. This is the usual case.
func (w *appendWindow) continuedBy(m *raftpb.Message) bool {
	if m.GetTerm() != w.term.Load() || m.GetFrom() != w.from || w.closed {
		return false
	}
	prev := m.GetIndex()
	return prev == w.last || prev == w.end && prev+uint64(len(m.Entries)) <= w.last && !w.active.Load()
}

// check decides whether the tracked append m may be queued: accepted, withheld or duplicate.
// The caller queues the result in place of m.
func (w *appendWindow) check(m *raftpb.Message, now time.Duration) (*raftpb.Message, Verdict) {
	prev := m.GetIndex()
	if m.GetTerm() != w.term.Load() || m.GetFrom() != w.from || prev < w.start {
		w.restart(m)
		return m, Accepted
	}
	next := prev + uint64(len(m.Entries))
	switch {
	case prev < next && next <= w.last && w.isCopy(next):
		w.skip(next, now)
		return m, Duplicate
	case w.closed && (w.owed || prev > w.last):
		return m, Withheld
	case prev < w.last && w.last < next && w.last > w.acked.Load():
		w.skip(w.last, now)
		return behind(m, int(w.last-prev)), Accepted
	default:
		return m, Accepted
	}
}

// isCopy reports whether an append within the window that ends with this entry is a copy of
// one in transit. Raft learns of acknowledgements a little later than the window: if it has
// gone back, the append may be acknowledged by now, and is still useless.
func (w *appendWindow) isCopy(next uint64) bool {
	acked := w.acked.Load()
	return acked < w.last && w.active.Load() || next == w.end && acked < next
}

// skip notes that entries up to this one were not queued again. From now on the window
// checks that they are acknowledged.
func (w *appendWindow) skip(through uint64, now time.Duration) {
	if !w.active.Load() {
		w.progress = now
	}
	w.skipped = max(w.skipped, through)
	w.update()
}

// behind returns the append m without its first n entries. A follower that has
// committed one of these would ignore the others as well.
func behind(m *raftpb.Message, n int) *raftpb.Message {
	return &raftpb.Message{
		Type: m.Type, To: m.To, From: m.From, Term: m.Term, Commit: m.Commit,
		LogTerm: new(m.Entries[n-1].GetTerm()), Index: new(m.GetIndex() + uint64(n)), Entries: m.Entries[n:],
	}
}

// restart empties the window, so that m continues at its end.
func (w *appendWindow) restart(m *raftpb.Message) {
	w.from = m.GetFrom()
	w.jump(m.GetIndex())
	w.acked.Store(0)
	w.term.Store(m.GetTerm())
	w.clear()
}

// jump restarts the window after prev: raft continued after a snapshot, or entries took another route.
func (w *appendWindow) jump(prev uint64) { w.start, w.end, w.last = prev, prev, prev }

// clear ends withholding and skipping, except for an owed report.
func (w *appendWindow) clear() {
	w.closed, w.skipped = false, 0
	w.update()
}

func (w *appendWindow) update() {
	if on := w.closed || w.owed || w.skipped > 0; w.active.Load() != on {
		w.active.Store(on)
	}
}

// reset forgets everything, and reports whether raft must still be told of withheld
// appends.
func (w *appendWindow) reset() (owed bool) {
	w.term.Store(0)
	return w.settle()
}

// empty is reset, including the untracked appends.
func (w *appendWindow) empty() (owed bool) {
	others := w.others
	w.others = false
	return w.reset() || others
}

// add notes that m was queued. A closed window must be opened then: raft has gone
// back to the lost entries.
func (w *appendWindow) add(m *raftpb.Message) {
	prev, n := m.GetIndex(), uint64(len(m.Entries))
	if prev > w.last {
		w.jump(prev)
	}
	if w.last = max(w.last, prev+n); n > 0 {
		w.end = prev + n
	}
}

// open ends draining and resuming.
func (w *appendWindow) open() {
	w.closed = false
	w.update()
}

// overflow notes that the queue had no room for it. It returns false if it is not an append,
// or if the queue holds none of its kind, tracked or other, whose writing could be waited
// for: then raft must be told at once.
func (w *appendWindow) overflow(it Item, f *fifo) bool {
	if !it.tracked() {
		late := IsAppend(it.Msg) && f.held > f.tracked.messages
		w.others = w.others || late
		return late
	}
	if f.tracked.messages == 0 {
		return false
	}
	if prev := it.Msg.GetIndex(); prev > w.last {
		w.jump(prev)
	}
	w.closed, w.owed = true, true
	w.drainTo = load{f.tracked.messages / 2, f.tracked.bytes / 2}
	w.update()
	return true
}

// released notes the load of the queue after tracked appends were written, and reports
// whether raft must be told now. It is called while the window is active.
func (w *appendWindow) released(f *fifo, now time.Duration) bool {
	w.progress = now
	if !w.owed || f.tracked.bytes > w.drainTo.bytes || f.tracked.messages > w.drainTo.messages {
		return false
	}
	w.owed = false
	if w.acked.Load() >= w.last { // raft may continue after it, and no acknowledgement will open the window
		w.closed = false
	}
	w.update()
	return true
}

// releasedOthers reports whether raft must be told now of untracked appends, since f, the
// queue of appends, holds none of them any more.
func (w *appendWindow) releasedOthers(f *fifo) bool {
	due := w.others && f.held == f.tracked.messages
	w.others = w.others && !due
	return due
}

// acknowledge notes, without the lock, that the peer has the entries up to this one. It
// reports whether that is new. A response that crosses a restart of the window may leave
// acked too high, which only lets copies pass.
func (w *appendWindow) acknowledge(index uint64) bool {
	for {
		acked := w.acked.Load()
		if index <= acked {
			return false
		}
		if w.acked.CompareAndSwap(acked, index) {
			return true
		}
	}
}

// answer handles the peer's MsgAppResp, a rejection or a new acknowledgement while the window is
// active, and reports whether raft must be told now.
func (w *appendWindow) answer(m *raftpb.Message, now time.Duration) bool {
	if m.GetTerm() != w.term.Load() {
		return false
	}
	if m.GetReject() {
		if i := m.GetIndex(); i < w.start || i > w.last {
			return false // of an append queued before the window began
		}
		// An append was lost. Raft sends again from the last acknowledged entry,
		// once with each heartbeat, and waits behind appends that will be rejected as well.
		return w.reset()
	}
	w.progress = now
	return w.advance()
}

// advance applies all acknowledgements until now, and reports whether raft must be
// told now.
func (w *appendWindow) advance() bool {
	acked := w.acked.Load()
	if acked >= w.last {
		return w.settle()
	}
	if acked >= w.skipped {
		w.skipped = 0
		w.update()
	}
	return false
}

// expired reports whether raft must be told now, since no tracked append is queued and
// none was acknowledged for too long.
func (w *appendWindow) expired(f *fifo, now time.Duration) bool {
	if f.tracked.messages > 0 || now-w.progress < w.timeout || !w.active.Load() {
		return false
	}
	if due := w.advance(); due || !w.active.Load() {
		return due // an acknowledgement came just when the window became active
	}
	w.owed = true
	return w.reset()
}

// snapshotTaken notes that the peer has accepted a snapshot, and reports whether raft must be
// told now. Raft continues after the snapshot once it knows, from the end of the transfer:
// the peer's answer may be lost.
func (w *appendWindow) snapshotTaken() bool {
	return w.reset()
}

// settle ends withholding and skipping, and reports whether raft must be told.
func (w *appendWindow) settle() bool {
	owed := w.owed
	w.owed = false
	w.clear()
	return owed
}

// AppendAnswered handles a MsgAppResp of the peer. It takes no lock while
// no append is withheld or skipped, unless an append was rejected.
func (q *Queue) AppendAnswered(m *raftpb.Message) {
	w := q.window
	if w == nil || m.GetTerm() != w.term.Load() {
		return
	}
	if !m.GetReject() && (!w.acknowledge(m.GetIndex()) || !w.active.Load()) {
		return
	}
	q.mu.Lock()
	due := w.answer(m, time.Since(q.born))
	q.mu.Unlock()
	if due {
		q.onDrained()
	}
}

// ForgetAppends resets the window: an accepted append is lost, which the caller
// reports, and with it the withheld appends.
func (q *Queue) ForgetAppends() {
	if q.window == nil {
		return
	}
	q.mu.Lock()
	q.window.reset()
	q.mu.Unlock()
}

// ExpireAppends tells raft if no append was acknowledged for too long. It is called regularly.
func (q *Queue) ExpireAppends() {
	if q.window == nil || !q.window.active.Load() {
		return
	}
	q.mu.Lock()
	due := q.window.expired(q.appends(), time.Since(q.born))
	q.mu.Unlock()
	if due {
		q.onDrained()
	}
}
