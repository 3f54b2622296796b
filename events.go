package rafthttp

import (
	"slices"

	"go.etcd.io/etcd/client/pkg/v3/types"
)

// events tells the Observer what happens to one member under a lock, or on the
// path of Send or of other members: changes of its state, in order, and drops,
// coalesced. The other hooks are called where it happens.
type events struct {
	notifier
	id       types.ID
	observer *Observer

	changes []stateChange // alternately active and inactive; at most maxStateChanges
	drops   []pendingDrop // one for each lane and reason
}

// stateChange is a call of PeerState.
type stateChange struct {
	active bool
	cause  error
}

// pendingDrop are calls of Dropped that became one.
type pendingDrop struct {
	lane  string
	n     int
	cause error // the last
}

// maxStateChanges bounds what waits for a hook that stands still.
const maxStateChanges = 16

func newEvents(o *Observer, id types.ID) *events {
	e := &events{observer: o, id: id}
	e.take = e.takeOne
	return e
}

// changed tells that the member became active, or inactive with its cause. While
// the hook is too slow, changes that cancel each other are left out.
func (e *events) changed(active bool, cause error) {
	if e.observer.PeerState == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if n := len(e.changes); n == maxStateChanges {
		e.changes = e.changes[:n-1]
		return
	}
	e.changes = append(e.changes, stateChange{active, cause})
	e.start()
}

// dropped tells of messages of a lane that are not delivered.
func (e *events) dropped(lane string, n int, cause error) {
	if e.observer.Dropped == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	same := func(d pendingDrop) bool { return d.lane == lane && dropIndex(d.cause) == dropIndex(cause) }
	if i := slices.IndexFunc(e.drops, same); i >= 0 {
		e.drops[i].n += n
		e.drops[i].cause = cause
	} else {
		e.drops = append(e.drops, pendingDrop{lane, n, cause})
	}
	e.start()
}

// takeOne is called with mu held.
func (e *events) takeOne() func() {
	switch {
	case len(e.changes) > 0:
		c := e.changes[0]
		e.changes = slices.Delete(e.changes, 0, 1)
		return func() { e.observer.PeerState(e.id, c.active, c.cause) }
	case len(e.drops) > 0:
		d := e.drops[0]
		e.drops = slices.Delete(e.drops, 0, 1)
		return func() { e.observer.Dropped(e.id, d.lane, d.n, d.cause) }
	}
	return nil
}
