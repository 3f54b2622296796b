package scenario

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// maxBatch is how many appends are handed over at once: etcd lets raft have 512 in flight to a follower, so a Ready
// has no more.
const maxBatch = 512

// stallTimeout is how long nothing may arrive while something is under way.
const stallTimeout = 20 * time.Second

// arrivals counts what has arrived at one peer. A message costs one addition and one load, whoever waits.
type arrivals struct {
	count  atomic.Int64
	target atomic.Int64 // count at which wake is told; MaxInt64 while nobody waits
	wake   chan struct{}
	_      [64]byte // no line of cache is shared with another peer
}

func newArrivals(n int) []arrivals {
	all := make([]arrivals, n)
	for i := range all {
		all[i].target.Store(math.MaxInt64)
		all[i].wake = make(chan struct{}, 1)
	}
	return all
}

func (a *arrivals) add(n int) {
	if a.count.Add(int64(n)) >= a.target.Load() {
		select {
		case a.wake <- struct{}{}:
		default:
		}
	}
}

// sink counts what a cluster says.
type sink struct {
	arrived []arrivals
	ponged  []arrivals

	failed chan struct{} // closed at the first failure, after cause is set
	fail   sync.Once
	cause  error
}

func newSink(peers int) *sink {
	return &sink{arrived: newArrivals(peers), ponged: newArrivals(peers), failed: make(chan struct{})}
}

func (s *sink) Appended(peer, n int) { s.arrived[peer].add(n) }
func (s *sink) Ponged(peer int)      { s.ponged[peer].add(1) }

func (s *sink) Failed(err error) {
	s.fail.Do(func() {
		s.cause = err
		close(s.failed)
	})
}

// err returns what failed first, if anything.
func (s *sink) err() error {
	select {
	case <-s.failed:
		return s.cause
	default:
		return nil
	}
}

// wait waits until n have arrived in all. It is not called concurrently for the same arrivals. A failure ends it.
func (s *sink) wait(a *arrivals, n int64) error {
	if a.count.Load() >= n {
		return nil
	}
	a.target.Store(n)
	defer a.target.Store(math.MaxInt64)
	for a.count.Load() < n {
		select {
		case <-a.wake:
		case <-s.failed:
			return s.cause
		}
	}
	return nil
}

// watch fails when nothing has arrived for stallTimeout or up to twice that while somebody waits, until stop is closed.
// So that no wait needs a timer.
func (s *sink) watch(stop <-chan struct{}) {
	ticker := time.NewTicker(stallTimeout)
	defer ticker.Stop()
	for last := int64(-1); ; {
		select {
		case <-stop:
			return
		case <-ticker.C:
		}
		switch n, waiting := s.progress(); {
		case !waiting:
			last = -1
		case n != last:
			last = n
		default:
			s.Failed(fmt.Errorf("nothing has arrived for %v, after %d messages", stallTimeout, n))
			return
		}
	}
}

// progress counts all that has arrived, and says whether somebody waits for more.
func (s *sink) progress() (n int64, waiting bool) {
	for _, all := range [][]arrivals{s.arrived, s.ponged} {
		for i := range all {
			n += all[i].count.Load()
			waiting = waiting || all[i].target.Load() != math.MaxInt64
		}
	}
	return n, waiting
}

// waitAll waits until n have arrived at each peer.
func (s *sink) waitAll(n int64) error {
	for i := range s.arrived {
		if err := s.wait(&s.arrived[i], n); err != nil {
			return err
		}
	}
	return nil
}

// total counts what has arrived at all peers.
func (s *sink) total() int64 {
	var n int64
	for i := range s.arrived {
		n += s.arrived[i].count.Load()
	}
	return n
}

// slowest counts what has arrived at each peer at least.
func (s *sink) slowest() int64 {
	n := int64(math.MaxInt64)
	for i := range s.arrived {
		n = min(n, s.arrived[i].count.Load())
	}
	return n
}
