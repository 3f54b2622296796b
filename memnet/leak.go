package memnet

import (
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
)

// leakPatience is how long goroutines may take to end after a test, in the test's own time.
const leakPatience = 5 * time.Second

// CheckGoroutines fails tb at its end if goroutines that were not there at the call still run then, and shows their
// stacks. They have 5 s to end, which pass in no time in a bubble of testing/synctest.
//
// In a bubble only the goroutines of that bubble count. Outside all count that are in none, so it is not for tests that
// run in parallel with others. Call it first: what is registered with Cleanup after it, such as the end of a server, runs
// before it looks.
func CheckGoroutines(tb testing.TB) {
	tb.Helper()
	before := make(map[string]bool)
	for _, g := range goroutines() {
		before[g.id] = true
	}
	tb.Cleanup(func() {
		tb.Helper()
		var stacks []string
		deadline := time.Now().Add(leakPatience)
		for pause := time.Millisecond; ; pause *= 2 {
			stacks = nil
			for _, g := range goroutines() {
				if !before[g.id] {
					stacks = append(stacks, g.stack)
				}
			}
			if len(stacks) == 0 {
				return
			}
			if !time.Now().Before(deadline) {
				tb.Errorf("%d goroutines of the test still run:\n\n%s", len(stacks), strings.Join(stacks, "\n\n"))
				return
			}
			time.Sleep(pause)
		}
	})
}

// goroutine is one of a dump of all stacks.
type goroutine struct{ id, bubble, stack string }

var goroutineHead = regexp.MustCompile(`^goroutine (\d+) [^\[]*\[[^\]]*?(?:synctest bubble (\d+))?[^\]]*\]:`)

// goroutines returns those of the caller's bubble, or those in none; not the caller, and none that the runtime or
// package testing started for itself.
func goroutines() (others []goroutine) {
	buf := make([]byte, 1<<20)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	var self goroutine
	for i, stack := range strings.Split(string(buf), "\n\n") {
		m := goroutineHead.FindStringSubmatch(stack)
		switch {
		case m == nil:
		case i == 0: // the caller comes first
			self = goroutine{id: m[1], bubble: m[2]}
		case m[2] != self.bubble, strings.Contains(stack, "os/signal.signal_recv"), strings.Contains(stack, "testing.runFuzzing"):
		default:
			others = append(others, goroutine{m[1], m[2], stack})
		}
	}
	return others
}
