package bubble

import (
	"slices"
	"strings"

	"github.com/seed-4d73690b/rafthttp/internal/stacks"
)

const module = "github.com/seed-4d73690b/rafthttp"

// call is one line of a stack.
type call struct {
	function string // with its package, without arguments
	at       string // file and line
}

// calls returns the calls of a goroutine, the innermost first.
func calls(g stacks.Goroutine) (all []call) {
	lines := strings.Split(g.Frames, "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		function := strings.TrimPrefix(lines[i], "created by ")
		if end := strings.LastIndexByte(function, '('); end > 0 && function == lines[i] {
			function = function[:end]
		}
		function, _, _ = strings.Cut(function, " in goroutine ")
		at, _, _ := strings.Cut(strings.TrimSpace(lines[i+1]), " +0x")
		all = append(all, call{function, at})
	}
	return all
}

// isInCallback reports whether the library has called application code that waits, such as an implementation of Raft,
// or a hook.
func isInCallback(g stacks.Goroutine) bool {
	called := false
	for _, c := range calls(g) {
		switch {
		case c.isLibrary() && called:
			return true
		case !c.isLibrary() && !c.isNeutral():
			called = true
		}
	}
	return false
}

// isLibrary reports whether the call is one of the library itself, and not of a test or of a test helper.
func (c call) isLibrary() bool {
	rest, ok := strings.CutPrefix(c.function, module)
	if !ok || strings.Contains(c.at, "_test.go:") {
		return false
	}
	return startsWithAny(rest, ".", "/snap.", "/internal/") && !startsWithAny(rest, "/internal/bubble.", "/internal/stacks.", "/internal/test")
}

// isNeutral reports whether the call is one that the library makes itself: of the standard library, or the network.
func (c call) isNeutral() bool {
	first, _, path := strings.Cut(c.function, "/")
	if !path || !strings.Contains(first, ".") { // the path of any other package begins with a domain
		return !strings.HasPrefix(c.function, "main.")
	}
	return startsWithAny(c.function, "golang.org/x/", module+"/memnet.")
}

func startsWithAny(s string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(s, p) })
}
