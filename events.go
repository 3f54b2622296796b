package rafthttp

import (
	"slices"

	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp/internal/snapshot"
)

// events tells the Observer, in order, what happens to one member under a lock, on
// the path of Send or of other members, or while something is held that others wait
// for, such as the place of a snapshot. The other hooks are called where it happens.
// What waits for a hook that stands still is bounded.
type events struct {
	notifier notifier
	id       types.ID
	observer *Observer
	queue    []*event
}

// event is a call of a hook.
type event struct {
	of    any    // what it tells of
	tell  func() // calls the hook
	n     int    // Dropped
	cause error  // Dropped, the last
	state SnapshotStatus
}

// What events tell of, beside the progress of one transfer.
type (
	ofState struct{}
	ofDrops struct {
		lane   string
		reason int // index of dropReasons
	}
	ofEnds struct{} // of transfers
)

const (
	maxStateChanges = 16 // that wait
	maxEnds         = 64
	maxTransfers    = 64 // whose progress waits
)

func newEvents(o *Observer, id types.ID) *events {
	e := &events{observer: o, id: id}
	e.notifier.take = e.takeOne
	return e
}

// changed tells that the member became active, or inactive with its cause. While
// too many wait, changes that cancel each other are left out.
func (e *events) changed(active bool, cause error) {
	f := e.observer.PeerState
	if f == nil {
		return
	}
	e.notifier.mu.Lock()
	defer e.notifier.mu.Unlock()
	if last, n := e.find(ofState{}); n >= maxStateChanges {
		e.queue = slices.Delete(e.queue, last, last+1)
		return
	}
	e.add(&event{of: ofState{}, tell: func() { f(e.id, active, cause) }})
}

// dropped tells of messages of a lane that are not delivered, together with those
// that were dropped there for the same reason and wait.
func (e *events) dropped(lane string, n int, cause error) {
	f := e.observer.Dropped
	if f == nil {
		return
	}
	of := ofDrops{lane, dropIndex(cause)}
	e.notifier.mu.Lock()
	defer e.notifier.mu.Unlock()
	if last, there := e.find(of); there > 0 {
		e.queue[last].n += n
		e.queue[last].cause = cause
		return
	}
	d := &event{of: of, n: n, cause: cause}
	d.tell = func() { f(e.id, lane, d.n, d.cause) }
	e.add(d)
}

// progress returns what is told of the progress of a transfer, the last state
// only; nil if nobody wants to know. It is left out while that of too many waits.
func (e *events) progress(of *snapshot.Progress) func(snapshot.Status) {
	f := e.observer.SnapshotProgress
	if f == nil {
		return nil
	}
	return func(st snapshot.Status) {
		e.notifier.mu.Lock()
		defer e.notifier.mu.Unlock()
		if last, there := e.find(of); there > 0 {
			e.queue[last].state = SnapshotStatus(st)
			return
		}
		if e.transfers() >= maxTransfers {
			return
		}
		p := &event{of: of, state: SnapshotStatus(st)}
		p.tell = func() { f(p.state) }
		e.add(p)
	}
}

// ended tells of the end of a transfer, by f, which may be nil. It is left out if
// too many wait.
func (e *events) ended(f snapshotHook, st snapshot.Status, err error) {
	if f == nil {
		return
	}
	e.notifier.mu.Lock()
	defer e.notifier.mu.Unlock()
	if _, n := e.find(ofEnds{}); n < maxEnds {
		e.add(&event{of: ofEnds{}, tell: func() { f(st.Peer, st.Index, st.Bytes, st.Ended.Sub(st.Started), err) }})
	}
}

// find returns how many events of something wait, and where the last one is. It is
// called with mu held.
func (e *events) find(of any) (last, n int) {
	for i, w := range e.queue {
		if w.of == of {
			last, n = i, n+1
		}
	}
	return last, n
}

// transfers returns of how many transfers the progress waits. It is called with mu held.
func (e *events) transfers() (n int) {
	for _, w := range e.queue {
		if _, ok := w.of.(*snapshot.Progress); ok {
			n++
		}
	}
	return n
}

// add is called with mu held.
func (e *events) add(w *event) {
	e.queue = append(e.queue, w)
	e.notifier.start()
}

// takeOne is called with mu held.
func (e *events) takeOne() func() {
	if len(e.queue) == 0 {
		e.queue = nil
		return nil
	}
	w := e.queue[0]
	e.queue = slices.Delete(e.queue, 0, 1)
	return w.tell
}
