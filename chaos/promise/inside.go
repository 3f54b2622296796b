package promise

import (
	"runtime"
	"strings"
)

// methods are how those of a Transport begin on a stack.
const methods = "github.com/seed-4d73690b/rafthttp.(*Transport)."

// methodOnStack returns the method of a Transport that the goroutine is in, or "".
func methodOnStack() string {
	var pcs [64]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	for {
		f, more := frames.Next()
		if name, ok := strings.CutPrefix(f.Function, methods); ok && !strings.Contains(name, ".") { // no function of its own
			return name
		}
		if !more {
			return ""
		}
	}
}

// lookAtCaller looks whether a callback comes from a goroutine that is inside a method of the Transport: who calls one may
// have a lock that the callback takes.
func (m *member) lookAtCaller(what string) {
	m.s.checked("send")
	if method := methodOnStack(); method != "" {
		m.s.violate("send", "%s of member %d is called from inside %s", what, m.id, method)
	}
}
