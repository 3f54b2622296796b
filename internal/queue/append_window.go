package queue

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
// would bring forth the next copy, and the line would carry little else. And as long as
// raft probes a follower, for whatever reason, it sends the same append with each
// heartbeat until it is acknowledged: on a slow line the queue would fill with copies.
//
// So the window remembers which entries the stream has accepted: (start, last] of
// one leader's term, which never change. Those of them that the peer has not
// acknowledged are queued or on their way, and raft's copies of them are skipped: as long
// as something is withheld, or was skipped and is not acknowledged, all of them, and else
// only those that end where the append before them ended, as probes do. Whoever sends
// earlier ones again without such a cause has a reason that is not seen here.
//
// New appends are taken in one of three states:
//
//	open      appends are accepted while there is room
//	draining  one found none: those behind it, which the follower could only reject,
//	          are withheld: dropped and counted, but raft is not told
//	resuming  half of the queue has drained, and raft was told: it sends again from
//	          what was acknowledged. The append that continues at last opens the window
//
// Entries may have been lost on the way, so nothing is skipped or withheld for ever.
// Raft is told, and the window begins anew with what it sends then, when
//   - the stream ends, or a post fails;
//   - the follower rejects an append: raft goes back by itself, and what was withheld is
//     reported;
//   - the peer has taken a snapshot;
//   - nothing of the window has been acknowledged for the read timeout since the last of
//     it was written.
//
// A skipped copy may bring a newer commit index, which raft takes for sent. The follower
// learns it from the next append that is not skipped, or the next of raft's heartbeats
// behind the acknowledgement of the entries. The leader counts acknowledgements, so
// no commit waits for that.
//
// A group whose messages carry a Context may share the queue. The window does not track
// its appends, since indexes of several groups may be mixed in them, so their copies
// cannot be told. If one finds no room all are withheld until none is queued any more: when
// raft is told by then, only what is on the line is sent twice.
//
// For the tracked appends their traffic counts for nothing: its writes are no progress of the tracked
// appends, and what it has queued is no reason to wait, for expiry or for half of the
// queue to drain. Otherwise it could hold up the tracked group without end.
//
// It is guarded by the lock of its queue; term, acked and active are read without it, so
// that an acknowledgement takes no lock while nothing depends on it.
type appendWindow struct {
	term        atomic.Uint64 // of the leader; 0: the window is empty
	from        uint64
	start, last uint64 // entries (start, last] were accepted
	end         uint64 // of the append with entries that was accepted last; start if there was none since

	closed  bool   // draining or resuming
	owed    bool   // raft has not been told what was withheld
	skipped uint64 // the last entry that was skipped, until it is acknowledged; 0: none
	drainTo load   // draining ends when the queue holds no more tracked appends

	others bool // raft has not been told of other appends that were withheld

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

// tracks reports whether m is an append of raft as its leader makes it: nothing in it
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

// continuedBy reports whether m goes on where the window ends, or where the last append
// ended, and check has no reason to refuse or shorten it. So do nearly all.
func (w *appendWindow) continuedBy(m *raftpb.Message) bool {
	if m.GetTerm() != w.term.Load() || m.GetFrom() != w.from || w.closed {
		return false
	}
	prev := m.GetIndex()
	return prev == w.last || prev == w.end && prev+uint64(len(m.Entries)) <= w.last && !w.active.Load()
}

// check says whether the tracked append m may be queued: accepted, withheld or duplicate.
// What it returns is to be queued in place of m.
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

// isCopy reports whether an append within the window, that ends with this entry, is a copy of
// what is under way. Raft learns of acknowledgements a little later than the window: if it has
// gone back, what it sends may be acknowledged by now, and still is of no use.
func (w *appendWindow) isCopy(next uint64) bool {
	acked := w.acked.Load()
	return acked < w.last && w.active.Load() || next == w.end && acked < next
}

// skip notes that entries up to this one were not queued again. From now on somebody has
// to see that they are acknowledged.
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

// restart empties the window, with what m continues at its end.
func (w *appendWindow) restart(m *raftpb.Message) {
	w.from = m.GetFrom()
	w.jump(m.GetIndex())
	w.acked.Store(0)
	w.term.Store(m.GetTerm())
	w.clear()
}

// jump has the window begin behind prev: raft went on behind a snapshot, or what is between went another way.
func (w *appendWindow) jump(prev uint64) { w.start, w.end, w.last = prev, prev, prev }

// clear ends what is withheld or skipped, but for the report that is owed.
func (w *appendWindow) clear() {
	w.closed, w.skipped = false, 0
	w.update()
}

func (w *appendWindow) update() {
	if on := w.closed || w.owed || w.skipped > 0; w.active.Load() != on {
		w.active.Store(on)
	}
}

// reset forgets everything, and reports whether raft has yet to be told of appends that
// were withheld.
func (w *appendWindow) reset() (owed bool) {
	w.term.Store(0)
	return w.settle()
}

// empty is reset, for the other appends as well.
func (w *appendWindow) empty() (owed bool) {
	others := w.others
	w.others = false
	return w.reset() || others
}

// add notes that m was queued. A window that is closed is to be opened then: raft has gone
// back to what was lost.
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

// overflow notes that the queue had no room for it. It reports false if this is no append,
// or if the queue holds none of its kind, tracked or other, whose writing could be waited
// for: then raft is to be told at once.
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

// released notes what the queue holds after tracked appends were written, and reports
// whether raft must be told now. It is called while the window is active.
func (w *appendWindow) released(f *fifo, now time.Duration) bool {
	w.progress = now
	if !w.owed || f.tracked.bytes > w.drainTo.bytes || f.tracked.messages > w.drainTo.messages {
		return false
	}
	w.owed = false
	if w.acked.Load() >= w.last { // raft may go on behind it, and no acknowledgement will open the window
		w.closed = false
	}
	w.update()
	return true
}

// releasedOthers reports whether raft must be told now of other appends, since f, which
// appends wait in, holds none of them any more.
func (w *appendWindow) releasedOthers(f *fifo) bool {
	due := w.others && f.held == f.tracked.messages
	w.others = w.others && !due
	return due
}

// acknowledge notes, without the lock, that the peer has the entries up to this one. It
// reports whether that is news. An answer that crosses a restart of the window may leave
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

// answer takes in the peer's MsgAppResp, a rejection or one that was news while the window is
// active, and reports whether raft must be told now.
func (w *appendWindow) answer(m *raftpb.Message, now time.Duration) bool {
	if m.GetTerm() != w.term.Load() {
		return false
	}
	if m.GetReject() {
		if i := m.GetIndex(); i < w.start || i > w.last {
			return false // of what was queued before the window began
		}
		// Something was lost. Raft sends again what follows the last acknowledged entry,
		// once with each heartbeat, while it waits behind what will be rejected as well.
		return w.reset()
	}
	w.progress = now
	return w.advance()
}

// advance ends what all acknowledgements until now end, and reports whether raft must be
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
// nothing was acknowledged for too long.
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

// snapshotTaken notes that the peer has taken a snapshot, and reports whether raft must be
// told now. Raft goes on behind the snapshot once it knows, from the end of the transfer:
// the peer's answer may be lost.
func (w *appendWindow) snapshotTaken() bool {
	return w.reset()
}

// settle ends what is withheld or skipped, and reports whether raft must be told.
func (w *appendWindow) settle() bool {
	owed := w.owed
	w.owed = false
	w.clear()
	return owed
}

// AppendAnswered takes in a MsgAppResp of the peer. It takes no lock while
// nothing is withheld or skipped, unless an append was rejected.
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

// ForgetAppends has the window begin anew: an append that was taken is lost, which the caller
// reports, and with it what was withheld.
func (q *Queue) ForgetAppends() {
	if q.window == nil {
		return
	}
	q.mu.Lock()
	q.window.reset()
	q.mu.Unlock()
}

// ExpireAppends has raft told if nothing was acknowledged for too long. It is called regularly.
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
