package callback

import (
	"fmt"
	"runtime"
	"strings"
)

const (
	maxStacks     = 8 << 20  // of all goroutines, read at once
	maxStackBytes = 16 << 10 // of those in callbacks, logged
)

// goroutinesInCallbacks returns the stacks of the goroutines that are inside a callback
// of a Transport, of any in the process.
func goroutinesInCallbacks() string {
	stacks := make([]byte, 64<<10)
	n := runtime.Stack(stacks, true)
	for n == len(stacks) && n < maxStacks {
		stacks = make([]byte, 2*n)
		n = runtime.Stack(stacks, true)
	}
	var found strings.Builder
	for one := range strings.SplitSeq(string(stacks[:n]), "\n\n") {
		if inCallback(one) && found.Len() < maxStackBytes {
			fmt.Fprintf(&found, "%.*s\n\n", maxStackBytes-found.Len(), one)
		}
	}
	return strings.TrimSpace(found.String())
}

// inCallback reports whether a stack has functions of the application inside of ours:
// those of a package whose path begins with a name with a dot, or main.
func inCallback(stack string) bool {
	const module = "github.com/seed-4d73690b/rafthttp"
	application := false
	for line := range strings.Lines(stack) { // the innermost function comes first
		if strings.HasPrefix(line, "goroutine ") || strings.HasPrefix(line, "\t") || strings.HasPrefix(line, "created by ") {
			continue
		}
		if strings.HasPrefix(line, module+".") || strings.HasPrefix(line, module+"/internal/") {
			return application
		}
		name, _, _ := strings.Cut(line, "(")
		if strings.HasPrefix(name, "golang.org/x/") || strings.HasPrefix(name, "go.uber.org/zap") {
			continue // the transport uses them as well
		}
		first, _, isPath := strings.Cut(name, "/")
		application = application || strings.HasPrefix(name, "main.") || (isPath && strings.Contains(first, "."))
	}
	return false
}
