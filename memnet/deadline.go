package memnet

import (
	"sync"
	"time"
)

// deadline turns a time into a flag, under the lock of the condition. A deadline is postponed far more often than it
// passes, so the timer is not changed then: it detects that it fired too early, and waits for the rest.
type deadline struct {
	expired bool
	at      time.Time // zero: none, or it has passed
	timer   *time.Timer
	due     time.Time // of timer, not after at; zero: it does not run
}

// set replaces the time, and wakes waiters of the condition at that time. A zero time is no deadline.
func (d *deadline) set(t time.Time, changed *sync.Cond) {
	d.expired = false
	if t.IsZero() {
		d.stop()
		return
	}
	left := time.Until(t)
	if left <= 0 {
		d.stop()
		d.expired = true
		changed.Broadcast()
		return
	}
	d.at = t
	switch {
	case d.timer == nil:
		d.due, d.timer = t, time.AfterFunc(left, func() { d.fire(changed) })
	case d.due.IsZero() || t.Before(d.due):
		d.due = t
		d.timer.Reset(left)
	}
}

// fire runs when the timer is due, perhaps while the deadline is replaced: only its current value counts.
func (d *deadline) fire(changed *sync.Cond) {
	changed.L.Lock()
	defer changed.L.Unlock()
	d.due = time.Time{}
	if d.at.IsZero() {
		return
	}
	if left := time.Until(d.at); left > 0 {
		d.due = d.at
		d.timer.Reset(left)
		return
	}
	d.at, d.expired = time.Time{}, true
	changed.Broadcast()
}

func (d *deadline) stop() {
	d.at, d.due = time.Time{}, time.Time{}
	if d.timer != nil {
		d.timer.Stop()
	}
}
