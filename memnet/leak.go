package memnet

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/stacks"
)

// leakPatience is how long goroutines may take to end after a test, in the test's own time.
const leakPatience = 5 * time.Second

// CheckGoroutines fails tb at its end if goroutines that did not exist at the call still run then, and shows their
// stacks. They have 5 s to end, which pass in no time in a bubble of testing/synctest.
//
// In a bubble only its own goroutines count. Outside all that are in none count, so it is not for tests that run in
// parallel with others. Call it first: functions registered with Cleanup after it, such as the end of a server, run
// before its check.
func CheckGoroutines(tb testing.TB) {
	tb.Helper()
	before := make(map[string]bool)
	for _, g := range goroutines() {
		before[g.ID] = true
	}
	tb.Cleanup(func() {
		tb.Helper()
		var left []string
		deadline := time.Now().Add(leakPatience)
		for pause := time.Millisecond; ; pause *= 2 {
			left = nil
			for _, g := range goroutines() {
				if !before[g.ID] {
					left = append(left, g.Stack)
				}
			}
			if len(left) == 0 {
				return
			}
			if !time.Now().Before(deadline) {
				tb.Errorf("%d goroutines of the test still run:\n\n%s", len(left), strings.Join(left, "\n\n"))
				return
			}
			time.Sleep(pause)
		}
	})
}

// goroutines returns those of the caller's bubble, or those in none; not the caller, and none that the runtime or
// package testing started for itself.
func goroutines() []stacks.Goroutine {
	self := stacks.Self()
	return slices.DeleteFunc(stacks.All(), func(g stacks.Goroutine) bool {
		return g.ID == self.ID || g.Bubble != self.Bubble ||
			strings.Contains(g.Stack, "os/signal.signal_recv") || strings.Contains(g.Stack, "testing.runFuzzing")
	})
}
