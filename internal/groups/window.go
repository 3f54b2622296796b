package groups

import (
	"sync"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/fair"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// appendWindow keeps copies of the appends to one replica out of the queue of its stream, as that of a peer does
// (queue.Window): raft's window may be larger than what the queue gives to one group. A replica has one while there are appends to it.
type appendWindow struct {
	mu     sync.Mutex // also makes looking at an append and queueing it one step
	window *queue.Window
	active bool // it counts in Groups.withholding
	ended  bool // the replica was removed
}

// now is the clock of the append windows.
func (gs *Groups) now() time.Duration { return time.Since(gs.born) }

// windowOf returns the append window of the replica, which is made if there is none.
func (r *replica) windowOf() *appendWindow {
	if w := r.window.Load(); w != nil {
		return w
	}
	r.window.CompareAndSwap(nil, &appendWindow{window: queue.NewWindow(r.node.groups.node.ReadTimeout)})
	return r.window.Load()
}

// updated is called with mu held, after anything that may begin or end withholding.
func (w *appendWindow) updated(gs *Groups) {
	if on := w.window.IsActive() && !w.ended; on != w.active {
		w.active = on
		if on {
			gs.withholding.Add(1)
		} else {
			gs.withholding.Add(-1)
		}
	}
}

// offerAppend is SendQueue.Offer for an append, by its window. due reports whether raft must be told that the replica is
// unreachable, because of appends that were withheld before.
func (r *replica) offerAppend(q *fair.SendQueue, f *fair.Flow, m *raftpb.Message, size int64) (v queue.Verdict, due bool) {
	if !queue.Tracks(m) {
		return q.Offer(f, m, size, false), false
	}
	gs := r.node.groups
	for {
		w := r.windowOf()
		w.mu.Lock()
		if r.window.Load() != w { // it was dropped as an idle one
			w.mu.Unlock()
			continue
		}
		v, due = w.offer(gs, q, f, m, size)
		w.updated(gs)
		w.mu.Unlock()
		return v, due
	}
}

// offer is called with mu held.
func (w *appendWindow) offer(gs *Groups, q *fair.SendQueue, f *fair.Flow, m *raftpb.Message, size int64) (v queue.Verdict, due bool) {
	now := gs.now()
	one, v := w.window.Admit(m, now)
	if v != queue.Accepted {
		return v, false
	}
	if one != m {
		size = wire.MemorySize(one)
	}
	v = q.Offer(f, one, size, false)
	switch {
	case v == queue.Accepted:
		w.window.Added(one)
	case v.Err() != nil && v != queue.TooLarge && w.window.Overflow(one, q.Held(f)):
		v = queue.Withheld
		if held := q.Held(f); held.Messages == 0 { // the last one was written just now
			due = w.window.Released(held, now)
		}
	}
	return v, due
}

// withWindow calls f with the append window of a replica, and tells raft if f says so.
func (r *replica) withWindow(f func(w *queue.Window) bool) {
	w := r.window.Load()
	if w == nil {
		return
	}
	w.mu.Lock()
	due := f(w.window)
	w.updated(r.node.groups)
	w.mu.Unlock()
	if due {
		r.unreachable()
	}
}

// answered updates the append window by a response of the replica, before Process.
func (r *replica) answered(m *raftpb.Message) {
	if m.Context == nil {
		r.withWindow(func(w *queue.Window) bool { return w.Answered(m, r.node.groups.now()) })
	}
}

// forgetAppends empties the append window: the stream has ended, or the replica has accepted a snapshot.
func (r *replica) forgetAppends() { r.withWindow((*queue.Window).Reset) }

// endWindow ends withholding. The replica was removed.
func (r *replica) endWindow() {
	w := r.windowOf()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	w.updated(r.node.groups)
}

// appendsWritten is called after appends were released from the queue of a stream.
func (gs *Groups) appendsWritten(q *fair.SendQueue, items []fair.Item) {
	if gs.withholding.Load() == 0 {
		return
	}
	var last *fair.Flow
	for _, it := range items {
		if it.Flow == last {
			continue
		}
		last = it.Flow
		if r := it.Flow.Owner.(*Group).find(it.Msg.GetTo()); r != nil {
			r.withWindow(func(w *queue.Window) bool { return w.Released(q.Held(it.Flow), gs.now()) })
		}
	}
}

// tidyWindow tells raft if no append was acknowledged for too long, and drops the window of a replica without appends.
func (r *replica) tidyWindow(q *fair.SendQueue) {
	w := r.window.Load()
	if w == nil {
		return
	}
	held := q.Held(r.flow(queue.Append))
	r.withWindow(func(w *queue.Window) bool { return w.Expired(held, r.node.groups.now()) })
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.active && !w.ended && held.Messages == 0 && r.sent.Load() < r.node.groups.clock.Load()-inFlight {
		r.window.CompareAndSwap(w, nil)
	}
}
