package member

import (
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/seed-4d73690b/rafthttp/internal/callback"
	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/loglimit"
)

// Activity decides whether a peer is active: a stream from it delivers, or POSTs and
// snapshots to or from it succeed. A failed POST has no effect while a stream is up. It is
// safe for concurrent use.
type Activity struct {
	log     *zap.Logger
	timeout time.Duration                  // how long a POST from the peer keeps it active
	Changed func(active bool, cause error) // nil: for a remote, which is never active

	mu      sync.Mutex
	ended   bool      // the peer was removed, or the transport stopped
	streams int       // from the peer, delivering
	posted  time.Time // last POST or snapshot to the peer, if it succeeded
	heard   time.Time // last successful POST or snapshot from the peer
	since   time.Time // zero while inactive
	until   time.Time // when it became inactive, or was made
	ends    uint64    // how often the peer became inactive
	last    error     // last failure
	lastAt  time.Time
	moved   time.Time // last time that the URLs changed

	lines  *rate.Limiter // of the log
	logged bool          // the log has the peer as active
	cause  error         // why it became inactive last
	lasted time.Duration // how long it was active before
}

func newActivity(log *zap.Logger, timeout time.Duration) *Activity {
	return &Activity{log: log, timeout: timeout, until: time.Now(), lines: loglimit.PerMinute(callback.MemberLines)}
}

// StreamUp notes that a stream from the peer began to deliver.
func (a *Activity) StreamUp() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.streams++
	a.activate()
}

// StreamDown notes that a stream that was up, and whose dial began at that time, ended.
func (a *Activity) StreamDown(began time.Time, cause error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.streams--
	if !a.isFormer(began) {
		a.failure(cause)
	}
	if a.silent() {
		a.deactivate(cause)
	}
}

// StreamMoved notes that a stream that was up ended since the peer has other URLs: that is
// no failure of the new ones.
func (a *Activity) StreamMoved(cause error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.streams--
	if a.silent() {
		a.deactivate(cause)
	}
}

// silent reports whether nothing keeps the peer active. It is called with mu held.
func (a *Activity) silent() bool {
	return a.streams == 0 && time.Since(a.posted) >= a.timeout && time.Since(a.heard) >= a.timeout
}

// PostOK notes that a POST or a snapshot to the peer succeeded that began at that time.
func (a *Activity) PostOK(began time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.isFormer(began) {
		return
	}
	a.posted = time.Now()
	a.activate()
}

// PostOf notes that a POST or a snapshot from the peer was processed.
func (a *Activity) PostOf() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.heard = time.Now()
	a.activate()
}

// DialFailed notes that a dial that began at that time, or anything but a POST, to the peer failed.
func (a *Activity) DialFailed(began time.Time, cause error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.isFormer(began) {
		a.failure(cause)
	}
}

// isFormer is called with mu held. It reports whether something that began at that time was under way to URLs from before
// Moved: its end says nothing of the present ones.
func (a *Activity) isFormer(began time.Time) bool { return began.Before(a.moved) }

// PostFailed notes that a POST or a snapshot to the peer failed that began at that time.
func (a *Activity) PostFailed(began time.Time, cause error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.isFormer(began) {
		return
	}
	a.failure(cause)
	if a.posted = (time.Time{}); a.silent() {
		a.deactivate(cause)
	}
}

// Tick ends the activity of a peer that was active only by its POSTs, and sent none
// for the timeout.
func (a *Activity) Tick() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.since.IsZero() && a.silent() {
		if a.lastAt.Before(a.since) {
			a.failure(errs.ErrStalled)
		}
		a.deactivate(errs.ErrStalled)
	}
	a.say() // suppressed before, because of too many lines
}

// Moved notes that the peer has other URLs: the last failure says nothing about them.
func (a *Activity) Moved() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last, a.lastAt, a.moved = nil, time.Time{}, time.Now()
}

// End notes that the peer was removed, or that the transport stopped: later events
// of the peer do not make it active.
func (a *Activity) End(cause error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended = true
	a.deactivate(cause)
}

// State is the state of a peer at one moment.
type State struct {
	Since  time.Time // the zero time: not active
	Until  time.Time // when it became inactive, or was made; the zero time while it is active
	Ends   uint64    // how often it became inactive
	Last   error     // the last failure, or nil
	LastAt time.Time
}

// State returns the current state.
func (a *Activity) State() State {
	a.mu.Lock()
	defer a.mu.Unlock()
	st := State{Since: a.since, Ends: a.ends, Last: a.last, LastAt: a.lastAt}
	if a.since.IsZero() {
		st.Until = a.until
	}
	return st
}

// ActiveSince returns when the peer became active, or the zero time.
func (a *Activity) ActiveSince() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.since
}

// failure is called with mu held.
func (a *Activity) failure(cause error) {
	a.last, a.lastAt = cause, time.Now()
}

// activate is called with mu held.
func (a *Activity) activate() {
	if a.Changed == nil || a.ended || !a.since.IsZero() {
		return
	}
	a.since = time.Now()
	a.say()
	a.Changed(true, nil)
}

// deactivate is called with mu held.
func (a *Activity) deactivate(cause error) {
	if a.since.IsZero() {
		return
	}
	a.cause, a.lasted = cause, time.Since(a.since)
	a.since, a.until = time.Time{}, time.Now()
	a.ends++
	a.say()
	a.Changed(false, cause)
}

// say logs whether the peer is active, unless the log has that, or has too many
// lines. It is called with mu held.
func (a *Activity) say() {
	active := !a.since.IsZero()
	if active == a.logged || a.ended || !a.lines.Allow() {
		return
	}
	a.logged = active
	if active {
		a.log.Info("peer became active")
	} else {
		a.log.Warn("peer became inactive (message send to peer failed)",
			zap.Duration("was-active-for", a.lasted), zap.Error(a.cause))
	}
}
