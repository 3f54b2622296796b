package groups

import (
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/fair"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// appendWindow keeps copies of the appends to one replica out of the queue of its stream, as that of a peer does
// (queue.Window): raft's window may be larger than what the queue gives to one group. A replica has one while there are appends to it.
//
// It is guarded by the lock of that queue, as is whether there is one: so an append is looked at and queued in one step, and nothing is
// written between a refusal and the note that raft must be told once something is written.
type appendWindow struct {
	queue.Window
	active bool // it counts in Groups.withholding
	ended  bool // the replica was removed
}

// now is the clock of the append windows.
func (gs *Groups) now() time.Duration { return time.Since(gs.born) }

// appendQueue returns the queue of appends to the replica, whose lock guards the append window.
func (r *replica) appendQueue() *fair.SendQueue { return r.node.writers[appends].Queue }

// windowOf returns the append window of the replica, which is made if there is none. The queue is locked.
func (r *replica) windowOf() *appendWindow {
	w := r.window.Load()
	if w == nil {
		w = new(appendWindow)
		w.Init(r.node.groups.node.ReadTimeout)
		r.window.Store(w)
	}
	return w
}

// updated is called with the queue locked, after anything that may begin or end withholding.
func (w *appendWindow) updated(gs *Groups) {
	if on := w.IsActive() && !w.ended; on != w.active {
		w.active = on
		if on {
			gs.withholding.Add(1)
		} else {
			gs.withholding.Add(-1)
		}
	}
}

// offerAppend offers a tracked append to the queue, by its window.
func (r *replica) offerAppend(o fair.Offers, f *fair.Flow, m *raftpb.Message) queue.Verdict {
	gs, w, v := r.node.groups, r.windowOf(), queue.Accepted
	usual := w.IsContinuedBy(m)
	if !usual {
		m, v = w.Admit(m, gs.now())
	}
	if v == queue.Accepted {
		v = o.Offer(f, m, wire.MemorySize(m), false)
		switch {
		case v == queue.Accepted:
			w.Added(m)
		case v.Err() != nil && v != queue.TooLarge && w.Overflow(m, o.Held(f)):
			v = queue.Withheld
		}
	}
	if !usual || v != queue.Accepted {
		w.updated(gs)
	}
	return v
}

// withWindow calls f with the append window of a replica, and tells raft if f says so.
func (r *replica) withWindow(f func(w *appendWindow, held queue.Held) (due bool)) {
	if r.window.Load() == nil {
		return
	}
	due, o := false, r.appendQueue().Begin()
	if w := r.window.Load(); w != nil { // it may have been dropped as an idle one
		due = f(w, o.Held(r.flow(queue.Append)))
		w.updated(r.node.groups)
	}
	o.End()
	if due {
		r.unreachable()
	}
}

// answered updates the append window by a response of the replica, before Process.
func (r *replica) answered(m *raftpb.Message) {
	if w := r.window.Load(); w != nil && m.Context == nil && w.Acknowledge(m) {
		r.withWindow(func(w *appendWindow, _ queue.Held) bool { return w.Answered(m, r.node.groups.now()) })
	}
}

// forgetAppends empties the append window: the stream has ended, or the replica has accepted a snapshot.
func (r *replica) forgetAppends() {
	r.withWindow(func(w *appendWindow, _ queue.Held) bool { return w.Reset() })
}

// endWindow ends withholding. The replica was removed.
func (r *replica) endWindow() {
	o := r.appendQueue().Begin()
	defer o.End()
	w := r.windowOf()
	w.ended = true
	w.updated(r.node.groups)
}

// appendsWritten is called after appends were released from the queue of a stream.
func (gs *Groups) appendsWritten(_ *fair.SendQueue, items []fair.Item) {
	if gs.withholding.Load() == 0 {
		return
	}
	var last *fair.Flow
	for _, it := range items {
		if it.Flow == last {
			continue
		}
		last = it.Flow
		if r := it.Flow.Owner.(*Group).find(it.Msg.GetTo()); r != nil && r.flow(queue.Append) == it.Flow { // not another one with its id
			r.withWindow(func(w *appendWindow, held queue.Held) bool { return w.Released(held, gs.now()) })
		}
	}
}

// tidyWindow tells raft if no append was acknowledged for too long, and drops the window of a replica without appends.
func (r *replica) tidyWindow() {
	gs := r.node.groups
	r.withWindow(func(w *appendWindow, held queue.Held) bool {
		due := w.Expired(held, gs.now())
		w.updated(gs)
		if !w.active && !w.ended && held.Messages == 0 && r.sent.Load() < gs.clock.Load()-inFlight {
			r.window.Store(nil)
		}
		return due
	})
}
