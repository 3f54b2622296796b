package memnet

import (
	"sync"
	"time"
)

// deadline turns a time into a flag, under the lock of the condition.
type deadline struct {
	expired bool
	timer   *time.Timer
}

// set replaces the time, and wakes who waits for the condition when it comes. A zero time is no deadline.
func (d *deadline) set(t time.Time, changed *sync.Cond) {
	d.stop()
	d.expired = false
	if t.IsZero() {
		return
	}
	left := time.Until(t)
	if left <= 0 {
		d.expired = true
		changed.Broadcast()
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(left, func() {
		changed.L.Lock()
		defer changed.L.Unlock()
		if d.timer == timer { // not replaced while this waited for the lock
			d.expired = true
			changed.Broadcast()
		}
	})
	d.timer = timer
}

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}
