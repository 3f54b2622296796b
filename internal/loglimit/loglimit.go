// Package loglimit keeps what happens again and again from filling the log.
package loglimit

import (
	"sync/atomic"
	"time"
)

// Interval is how long a Limiter is silent after a line.
const Interval = time.Minute

// Limiter lets one line of the log through in each Interval. Its zero value is ready, and
// it is safe for concurrent use.
type Limiter struct{ last atomic.Pointer[time.Time] }

// Due reports whether a line is to be written now.
func (l *Limiter) Due(now time.Time) bool {
	last := l.last.Load()
	if last != nil && now.Sub(*last) < Interval {
		return false
	}
	at := now // now itself would be allocated each time
	return l.last.CompareAndSwap(last, &at)
}
