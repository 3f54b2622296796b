package promise

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/stacks"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// lookAtStatus looks at the bounds of a member.
func (s *simulation) lookAtStatus(m *member) {
	st := m.Status()
	s.checked("bounds")
	if st.QueuedBytes > st.MaxQueuedBytes {
		s.violate("bounds", "the queues of member %d have %d bytes, more than %d", m.id, st.QueuedBytes, st.MaxQueuedBytes)
	}
	for _, p := range st.Peers {
		s.lookAtActive(m, p, s.now())
		s.lookAtStreams(m, p, s.now())
		s.lookAtLosses(m, p)
		s.lookAtTold(m, p)
		for _, l := range p.Lanes {
			if l.Queued > l.Capacity || (l.Queued > 1 && l.QueuedBytes > l.CapacityBytes) {
				s.violate("bounds", "lane %s of member %d and %d has %d messages of %d, %d bytes of %d",
					l.Name, m.id, uint64(p.ID), l.Queued, l.Capacity, l.QueuedBytes, l.CapacityBytes)
			}
		}
	}
	if n, limit := int(m.open.Load()), s.connections(s.others(m))+s.lingering(m); n > limit {
		s.violate("bounds", "member %d has %d connections, more than %d", m.id, n, limit)
	}
}

// connections is how many a member may have: four streams for each of others that may have it as a peer, whether it has them or
// not, and those of posts, probes and snapshots both ways. When a long cut ends, dials arrive whose dialler has given up.
// Nodes of groups have as many streams, and posts, of their own.
func (s *simulation) connections(others int) int {
	if s.hasGroups() {
		return 16 + 96*others
	}
	return 16 + 48*others
}

// linger notes that a line to a member is narrow for some time: it has connections whose dialler has given up, and has said so, until
// that arrives. The returned function ends it.
func (s *simulation) linger(w *way, d time.Duration) (end func()) {
	n := dialsAtOnce * (1 + int(d/dialTimeout))
	add := func(n int) {
		s.book.mu.Lock()
		defer s.book.mu.Unlock()
		w.linger += n
	}
	add(n)
	return func() { add(-n) }
}

// dialsAtOnce is how many connections one member dials at once to another: for two streams, posts, a probe, and a snapshot.
const dialsAtOnce = 16

// dialTimeout is the DialTimeout of a Transport that says nothing else.
const dialTimeout = 5 * time.Second

// lingering is how many such connections a member may have. With TLS the other end of a narrow line waits as long for the answer to its part
// of a handshake.
func (s *simulation) lingering(m *member) (n int) {
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	for _, w := range s.book.all {
		if w.to == m.id || s.plan.TLS && w.from == m.id {
			n += w.linger
		}
	}
	return n
}

// others returns how many members send something to a member.
func (s *simulation) others(m *member) (n int) {
	for _, w := range s.book.all {
		if w.to == m.id {
			n++
		}
	}
	return n
}

// dialingStrangers is how many members may dial a stranger, added up over the strangers.
func (s *simulation) dialingStrangers() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range s.strangers {
		for _, w := range s.book.all {
			if w.to == id {
				n++
			}
		}
	}
	return n
}

// Goroutines that a member may have, and those beside for each of its peers: two for each of four streams, those that
// serve a lane or a notifier while it is in use, and POSTs. There are up to twelve of these at once, each with five goroutines at both ends:
// one makes it, two serve its connection at the client, two at the server. Nodes of groups have twelve more.
const (
	ofMember = 24
	ofPeer   = 64
	ofPosts  = 12 * 5
)

// lookAtGoroutines compares how many goroutines there are with the members.
func (s *simulation) lookAtGoroutines() {
	limit, ofPeer := s.base+32, ofPeer
	if s.hasGroups() {
		ofPeer += ofPosts
	}
	if !s.inTime() { // a worker that sleeps in a fault point counts as blocked, and others take its place: one for each inbox
		ofPeer += (int(kinds) + 1) * len(s.plan.Groups)
	}
	for _, m := range s.running() {
		limit += ofMember + 2*s.lingering(m)
		for _, w := range s.book.all {
			if w.from == m.id {
				limit += ofPeer
			}
		}
	}
	limit += ofPeer * s.dialingStrangers() // a server has a goroutine for each connection
	if s.sabotaged("goroutines") {
		go func() { <-s.over }()
	}
	s.checked("goroutines")
	if runtime.NumGoroutine() <= limit { // which is cheap
		return
	}
	if n := stacks.InBubble(); n > limit {
		s.violate("goroutines", "there are %d goroutines, more than %d", n, limit)
	}
}

// watchGoroutines returns what looks for goroutines that were not there when it was called.
func (s *simulation) watchGoroutines() (look func()) {
	tb := &leakTB{}
	memnet.CheckGoroutines(tb)
	return func() {
		time.Sleep(time.Minute) // connections that nobody uses are closed by then
		s.checked("goroutines")
		tb.cleanup()
		if tb.found != "" {
			s.violate("goroutines", "%s", tb.found)
		}
	}
}

// leakTB is a test that keeps what CheckGoroutines says.
type leakTB struct {
	testing.TB
	cleanup func()
	found   string
}

// Helper implements testing.TB.
func (*leakTB) Helper() {}

// Cleanup implements testing.TB.
func (l *leakTB) Cleanup(f func()) { l.cleanup = f }

// Errorf implements testing.TB.
func (l *leakTB) Errorf(format string, args ...any) { l.found = fmt.Sprintf(format, args...) }
