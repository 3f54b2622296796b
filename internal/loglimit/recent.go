package loglimit

import (
	"sync"
	"time"
)

// maxRefusals limits the keys that a Recent remembers, and so the lines that it allows in each Interval.
const maxRefusals = 64

// Recent allows one line of the log in each Interval for each key. It is bounded: clients decide neither memory nor
// log volume. Its zero value is ready, and it is safe for concurrent use.
type Recent[K comparable] struct {
	mu     sync.Mutex
	logged map[K]time.Time
}

// First reports whether a line should be written now.
func (r *Recent[K]) First(key K) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if at, ok := r.logged[key]; ok && now.Sub(at) < Interval {
		return false
	}
	if len(r.logged) >= maxRefusals {
		for k, at := range r.logged {
			if now.Sub(at) >= Interval {
				delete(r.logged, k)
			}
		}
		if len(r.logged) >= maxRefusals {
			return false
		}
	}
	if r.logged == nil {
		r.logged = map[K]time.Time{}
	}
	r.logged[key] = now
	return true
}
