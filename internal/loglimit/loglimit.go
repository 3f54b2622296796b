// Package loglimit keeps repeated events from filling the log.
package loglimit

import (
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Interval is how long a Limiter is silent after a line.
const Interval = time.Minute

// PerMinute returns a limit of n lines in a row, then n a minute.
func PerMinute(n int) *rate.Limiter {
	return rate.NewLimiter(rate.Every(Interval/time.Duration(n)), n)
}

// Limiter allows one line of the log in each Interval. Its zero value is ready, and
// it is safe for concurrent use.
type Limiter struct{ last atomic.Pointer[time.Time] }

// Due reports whether a line should be written now.
func (l *Limiter) Due(now time.Time) bool {
	last := l.last.Load()
	if last != nil && now.Sub(*last) < Interval {
		return false
	}
	at := now // now itself would be allocated each time
	return l.last.CompareAndSwap(last, &at)
}
