package rafthttp

import (
	"crypto/tls"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"golang.org/x/time/rate"

	"github.com/seed-4d73690b/rafthttp/internal/snapshot"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// incomingSnapshot is one transfer to us.
type incomingSnapshot struct {
	snapshot.Progress
	tls  *tls.ConnectionState // that it comes over; nil: not encrypted
	done chan struct{}

	checking atomic.Bool // a recheck is under way

	interrupt func() // ends it as if its connection broke; nil until it can be called; guarded as key is

	key snap.Transfer // guarded by the mutex of incomingSnapshots; the zero Transfer where it cannot be resumed
}

func (t *incomingSnapshot) head(m *raftpb.Message, left int64) {
	t.Index.Store(m.GetSnapshot().GetMetadata().GetIndex())
	if left >= 0 {
		t.Total.Store(t.Bytes.Load() + left)
	}
}

// incomingSnapshots are the transfers to us, at most max at once.
type incomingSnapshots struct {
	max      int
	lines    *rate.Limiter // of the log, transfers of those who are no peers
	noSplice atomic.Bool   // the kernel cannot move bytes from sockets to the Snapshotter's files

	mu   sync.Mutex
	all  map[*incomingSnapshot]struct{}
	last *snapshot.Status
}

func (s *incomingSnapshots) begin(q *request) (*incomingSnapshot, bool) {
	t := &incomingSnapshot{tls: q.r.TLS, done: make(chan struct{})}
	t.Peer, t.Incoming, t.Observe, t.Every = q.from, true, q.eventsOf(q.from).progress(&t.Progress), q.readTimeout/snapshot.StallTicks
	t.Begin(time.Now(), -1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.all) >= s.max {
		return nil, false
	}
	s.all[t] = struct{}{}
	return t, true
}

// interruptible says how t is interrupted.
func (s *incomingSnapshots) interruptible(t *incomingSnapshot, interrupt func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t.interrupt = interrupt
}

// name says what t brings. It reports false if another transfer brings the same.
func (s *incomingSnapshots) name(t *incomingSnapshot, key snap.Transfer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for other := range s.all {
		if other.key == key {
			return false
		}
	}
	t.key = key
	return true
}

// saved says that the database of t is in its place: another transfer of it may
// say so to its sender while t is processed.
func (s *incomingSnapshots) saved(t *incomingSnapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t.key = snap.Transfer{}
}

// find returns the transfer that brings key, or nil.
func (s *incomingSnapshots) find(key snap.Transfer) *incomingSnapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	for t := range s.all {
		if t.key == key {
			return t
		}
	}
	return nil
}

func (s *incomingSnapshots) busy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.all) >= s.max
}

func (s *incomingSnapshots) end(t *incomingSnapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, t)
	if st := t.State(); !st.Ended.IsZero() {
		s.last = &st
	}
	close(t.done)
}

func (s *incomingSnapshots) status() (all []SnapshotStatus, last *SnapshotStatus) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var states []snapshot.Status
	for t := range s.all {
		states = append(states, t.State())
	}
	return snapshotStatuses(states, s.last)
}
