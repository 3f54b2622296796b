package promise

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/seed-4d73690b/rafthttp/memnet"
)

// Goroutines that a member may have, and those beside for each of its peers: two for each of four streams, those that
// serve a lane or a notifier while it is in use, posts that are made and served.
const (
	ofMember = 24
	ofPeer   = 64
)

// lookAtGoroutines compares how many goroutines there are with the members.
func (s *simulation) lookAtGoroutines() {
	limit := s.base + 32
	for _, m := range s.running() {
		limit += ofMember
		for _, w := range s.book.all {
			if w.from == m.id {
				limit += ofPeer
			}
		}
	}
	if s.sabotaged("goroutines") {
		go func() { <-s.over }()
	}
	s.checked("goroutines")
	if n := runtime.NumGoroutine(); n > limit {
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
