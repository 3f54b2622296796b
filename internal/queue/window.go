package queue

import (
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// Window is an append window for the appends of one raft group to one replica in a queue that others share: see
// appendWindow. It may begin at any append. It is guarded by the lock of that queue, except for Acknowledge. The methods that
// report whether raft must be told are about withheld appends: the replica is unreachable then.
type Window struct{ w appendWindow }

// Held is what the shared queue holds of the appends of a window.
type Held struct {
	Messages int
	Bytes    int64
}

// fifo returns a fifo with this load of tracked appends.
func (h Held) fifo() *fifo {
	return &fifo{held: h.Messages, heldBytes: h.Bytes, tracked: load{h.Messages, h.Bytes}}
}

// Init makes the zero value an empty window. Raft is told if no append is acknowledged for timeout.
func (w *Window) Init(timeout time.Duration) { w.w.timeout = timeout }

// Tracks reports whether m is an append as raft's leader makes it. Others pass by the window.
func Tracks(m *raftpb.Message) bool { return tracks(m) }

// IsContinuedBy reports whether the tracked append m may be queued since it continues where the last one ended, which is the usual
// case. If not, Admit decides.
func (w *Window) IsContinuedBy(m *raftpb.Message) bool { return w.w.continuedBy(m) }

// Admit decides whether the tracked append m may be queued: Accepted, Withheld or Duplicate. The caller queues the result
// in place of m.
func (w *Window) Admit(m *raftpb.Message, now time.Duration) (*raftpb.Message, Verdict) {
	return w.w.check(m, now)
}

// Added notes that m was queued.
func (w *Window) Added(m *raftpb.Message) {
	if w.w.add(m); w.w.closed {
		w.w.open()
	}
}

// Overflow notes that the queue had no room for m. It returns false if raft must be told at once.
func (w *Window) Overflow(m *raftpb.Message, held Held) bool {
	return w.w.overflow(Item{Msg: m, ticket: windowTracks}, held.fifo())
}

// Released notes what the queue holds after appends were written, and reports whether raft must be told.
func (w *Window) Released(held Held, now time.Duration) bool {
	return w.w.active.Load() && w.w.released(held.fifo(), now)
}

// Acknowledge notes a MsgAppResp of the replica, and reports whether Answered must be called with it. It needs no lock, and may be
// called concurrently with any method.
func (w *Window) Acknowledge(m *raftpb.Message) bool {
	return m.GetTerm() == w.w.term.Load() && (m.GetReject() || w.w.acknowledge(m.GetIndex()) && w.w.active.Load())
}

// Answered handles a MsgAppResp of the replica of which Acknowledge says so, and reports whether raft must be told.
func (w *Window) Answered(m *raftpb.Message, now time.Duration) bool { return w.w.answer(m, now) }

// Expired reports whether raft must be told since no append was acknowledged for too long.
func (w *Window) Expired(held Held, now time.Duration) bool {
	return w.w.active.Load() && w.w.expired(held.fifo(), now)
}

// Reset forgets everything: the connection has ended, or the replica has accepted a snapshot. It reports whether raft must be told.
func (w *Window) Reset() bool { return w.w.reset() }

// IsActive reports whether appends are withheld or skipped: acknowledgements, and their absence, matter.
func (w *Window) IsActive() bool { return w.w.active.Load() }
