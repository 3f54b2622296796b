// Package bubble runs tests in bubbles of testing/synctest.
package bubble

import (
	"runtime"
	"testing"
	"testing/synctest"
)

// Test is synctest.Test, with one processor while the race detector is on.
//
// Up to Go 1.26 at least, all timers of a bubble share one context of the race
// detector, and two processors that run timers at once, one because they are due
// and one since it looks at the channel of another that is, crash it: SIGSEGV, or
// "ThreadSanitizer: CHECK failed" (golang.org/issue/78156). The detector goes by what
// happens before what, and finds races on one processor as well.
//
// It must not be used by tests that run in parallel with others.
func Test(t *testing.T, f func(*testing.T)) {
	t.Helper()
	if raceEnabled {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	}
	synctest.Test(t, f)
}
