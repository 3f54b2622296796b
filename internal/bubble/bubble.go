// Package bubble runs tests in bubbles of testing/synctest.
package bubble

import (
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// Test is synctest.Test, with one processor while the race detector is on, and with a watchdog: if the bubble makes no
// progress for 15 s of real time, which happens when a goroutine waits for a mutex whose owner sleeps, the process
// panics with the stacks of the bubble's goroutines: those that wait for a lock come first, then those in callbacks.
// Goroutines that run, or only wait for a processor, count as progress, whatever time it takes.
//
// Up to Go 1.26 at least, all timers of a bubble share one context of the race
// detector, and two processors that run timers at once, one because they are due
// and one since it looks at the channel of another that is, crash it: SIGSEGV, or
// "ThreadSanitizer: CHECK failed" (golang.org/issue/78156). The detector uses the happens-before
// relation, and finds races on one processor as well.
//
// It must not be used by tests that run in parallel with others.
func Test(t *testing.T, f func(*testing.T)) {
	t.Helper()
	test(t, patience, end, f)
}

// end ends the process: a goroutine that waits for a mutex cannot be ended, so its test cannot fail in another way.
func end(report string) { panic(report) }

func test(t *testing.T, limit time.Duration, fail func(report string), f func(*testing.T)) {
	t.Helper()
	if raceEnabled {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	}
	w := watch(t.Name(), limit, fail)
	defer w.stop()
	synctest.Test(t, func(t *testing.T) {
		w.enter()
		f(t)
	})
}
