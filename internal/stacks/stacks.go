// Package stacks parses dumps of goroutines.
package stacks

import (
	"runtime"
	"strings"
)

// Goroutine is one goroutine of a dump.
type Goroutine struct {
	ID     string
	State  string // what it does or waits for: "running", "sync.Mutex.Lock", "sleep (durable)"
	Bubble string // number of its bubble of testing/synctest; "" if none
	Frames string // its calls, the innermost first, two lines each
	Stack  string // all of it, including the line with the above
}

// All returns all goroutines, the caller first. It stops the world.
func All() []Goroutine {
	for buf := make([]byte, 1<<20); ; buf = make([]byte, 2*len(buf)) {
		if n := runtime.Stack(buf, true); n < len(buf) {
			return parse(string(buf[:n]))
		}
	}
}

// Self returns the caller. Frames and Stack may be truncated.
func Self() Goroutine {
	buf := make([]byte, 1<<10)
	g, _ := parseOne(string(buf[:runtime.Stack(buf, false)]))
	return g
}

// InBubble returns how many goroutines there are in the bubble of the caller, which is one of them. runtime.NumGoroutine adds up
// numbers that change meanwhile: it counts up to 33 too many while a processor puts goroutines that have ended where others find
// them, and all that others in the process have, such as one that runs finalizers.
func InBubble() (n int) {
	bubble := Self().Bubble
	for _, g := range All() {
		if g.Bubble == bubble {
			n++
		}
	}
	return n
}

func parse(dump string) (all []Goroutine) {
	for stack := range strings.SplitSeq(dump, "\n\n") {
		if g, ok := parseOne(stack); ok {
			all = append(all, g)
		}
	}
	return all
}

// parseOne parses one goroutine, whose first line is, for example,
//
//	goroutine 12 [select (durable), 3 minutes, locked to thread, synctest bubble 5]:
func parseOne(stack string) (g Goroutine, ok bool) {
	stack = strings.TrimSpace(stack)
	head, frames, _ := strings.Cut(stack, "\n")
	id, rest, ok := strings.Cut(strings.TrimPrefix(head, "goroutine "), " ")
	_, rest, found := strings.Cut(rest, "[")
	if !ok || !found || !strings.HasPrefix(head, "goroutine ") {
		return g, false
	}
	about, _, _ := strings.Cut(rest, "]:")
	state, about, _ := strings.Cut(about, ", ")
	g = Goroutine{ID: id, State: state, Frames: frames, Stack: stack}
	for word := range strings.SplitSeq(about, ", ") {
		if number, ok := strings.CutPrefix(word, "synctest bubble "); ok {
			g.Bubble, _, _ = strings.Cut(number, " ")
		}
	}
	return g, true
}
