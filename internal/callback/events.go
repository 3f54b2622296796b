package callback

import (
	"slices"

	"go.etcd.io/etcd/client/pkg/v3/types"
)

// EventHooks are the hooks of an Observer that Events calls with its own arguments. Hooks
// that are nil are not called.
type EventHooks struct {
	PeerState func(id types.ID, active bool, cause error)
	Dropped   func(id types.ID, lane string, n int, cause error)
	// ReasonOf returns the reason of a drop from its cause, as a number. It must not be nil
	// if Dropped is not.
	ReasonOf func(cause error) int
}

// Events notify the Observer, in order, of events of one member that happen under a lock, on
// the path of Send or of other members, or while the transport holds something that others wait
// for, such as the place of a snapshot. The other hooks are called where the event happens. The
// number of events that wait for a blocked hook is bounded. Events are safe for concurrent use,
// and no method but Close blocks.
type Events struct {
	notifier notifier
	id       types.ID
	hooks    EventHooks
	queue    []*event
}

// event is a call of a hook.
type event struct {
	about any    // stateChange, drops, transferProgress or transferEnd
	call  func() // calls the hook
	n     int    // of drops
	cause error  // of drops, the last
}

// What events are about.
type (
	stateChange struct{}
	drops       struct {
		lane   string
		reason int
	}
	transferProgress struct{ of any }
	transferEnd      struct{}
)

// Bounds of the events that wait.
const (
	maxStateChanges = 16
	maxTransferEnds = 64
	maxTransfers    = 64 // that have progress waiting
)

// NewEvents returns the events of one member.
func NewEvents(id types.ID, hooks EventHooks) *Events {
	e := &Events{id: id, hooks: hooks}
	e.notifier.take = e.takeOne
	return e
}

// Close waits until the hooks that were to be called have returned. None is called later.
func (e *Events) Close() { e.notifier.close() }

// StateChanged reports that the member became active, or inactive with its cause. While too many
// changes wait, those that cancel each other are left out.
func (e *Events) StateChanged(active bool, cause error) {
	f := e.hooks.PeerState
	if f == nil {
		return
	}
	e.notifier.mu.Lock()
	defer e.notifier.mu.Unlock()
	if last, n := e.find(stateChange{}); n >= maxStateChanges {
		e.queue = slices.Delete(e.queue, last, last+1)
		return
	}
	e.add(&event{about: stateChange{}, call: func() { f(e.id, active, cause) }})
}

// Dropped reports messages of a lane that are not delivered, in one call with those that were
// dropped there for the same reason and wait.
func (e *Events) Dropped(lane string, n int, cause error) {
	f := e.hooks.Dropped
	if f == nil {
		return
	}
	about := drops{lane, e.hooks.ReasonOf(cause)}
	e.notifier.mu.Lock()
	defer e.notifier.mu.Unlock()
	if last, waiting := e.find(about); waiting > 0 {
		e.queue[last].n += n
		e.queue[last].cause = cause
		return
	}
	d := &event{about: about, n: n, cause: cause}
	d.call = func() { f(e.id, lane, d.n, d.cause) }
	e.add(d)
}

// Progress calls call asynchronously, to report the progress of a transfer. It replaces a waiting call for the
// same transfer, and is left out while calls for too many transfers wait.
func (e *Events) Progress(of any, call func()) {
	about := transferProgress{of}
	e.notifier.mu.Lock()
	defer e.notifier.mu.Unlock()
	if last, waiting := e.find(about); waiting > 0 {
		e.queue[last].call = call
		return
	}
	if e.transfers() < maxTransfers {
		e.add(&event{about: about, call: call})
	}
}

// TransferEnded calls call asynchronously, to report the end of a transfer, unless too many wait.
func (e *Events) TransferEnded(call func()) {
	e.notifier.mu.Lock()
	defer e.notifier.mu.Unlock()
	if _, n := e.find(transferEnd{}); n < maxTransferEnds {
		e.add(&event{about: transferEnd{}, call: call})
	}
}

// find returns how many events about something wait, and the position of the last one. It is
// called with mu held.
func (e *Events) find(about any) (last, n int) {
	for i, w := range e.queue {
		if w.about == about {
			last, n = i, n+1
		}
	}
	return last, n
}

// transfers returns how many transfers have progress waiting. It is called with mu held.
func (e *Events) transfers() (n int) {
	for _, w := range e.queue {
		if _, ok := w.about.(transferProgress); ok {
			n++
		}
	}
	return n
}

// add is called with mu held.
func (e *Events) add(w *event) {
	e.queue = append(e.queue, w)
	e.notifier.start()
}

// takeOne is called with mu held.
func (e *Events) takeOne() func() {
	if len(e.queue) == 0 {
		e.queue = nil
		return nil
	}
	w := e.queue[0]
	e.queue = slices.Delete(e.queue, 0, 1)
	return w.call
}
