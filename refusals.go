package rafthttp

import (
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
)

// refusals remember which refusals were logged lately. They are bounded: what a
// stranger sends decides neither memory nor log volume.
type refusals[K comparable] struct {
	mu     sync.Mutex
	logged map[K]time.Time
}

// refusal is one of a request.
type refusal struct {
	from types.ID
	code int
}

const (
	refusalQuiet = time.Minute
	maxRefusals  = 64 // log lines for each refusalQuiet
)

// first reports whether a refusal is to be logged.
func (r *refusals[K]) first(key K) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if at, ok := r.logged[key]; ok && now.Sub(at) < refusalQuiet {
		return false
	}
	if len(r.logged) >= maxRefusals {
		for k, at := range r.logged {
			if now.Sub(at) >= refusalQuiet {
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
