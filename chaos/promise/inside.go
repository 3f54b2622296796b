package promise

import (
	"runtime"
	"strings"
	"sync"
)

// methods are how those of a Transport, and of a Group, begin on a stack.
var methods = []string{"github.com/seed-4d73690b/rafthttp.(*Transport).", "github.com/seed-4d73690b/rafthttp.(*Group)."}

// methodsAt has the method of a Transport, or "", that a program counter is in. To look one up takes as long as all else that a
// callback does here, and there are as many as places in the code.
var methodsAt sync.Map // uintptr to string

// methodOnStack returns the method of a Transport that the goroutine is in, or "".
func methodOnStack() string {
	var pcs [64]uintptr
	for _, pc := range pcs[:runtime.Callers(2, pcs[:])] {
		name, ok := methodsAt.Load(pc)
		if !ok {
			name = methodAt(pc)
			methodsAt.Store(pc, name)
		}
		if name != "" {
			return name.(string)
		}
	}
	return ""
}

// methodAt returns the method of a Transport that a return address, of runtime.Callers, leads into, or "".
func methodAt(pc uintptr) string {
	frames := runtime.CallersFrames([]uintptr{pc})
	for {
		f, more := frames.Next() // one for each function that is inlined there
		for _, of := range methods {
			if name, ok := strings.CutPrefix(f.Function, of); ok && !strings.Contains(name, ".") { // no function of its own
				return name
			}
		}
		if !more {
			return ""
		}
	}
}

// lookAtCaller looks whether a callback comes from a goroutine that is inside a method of the Transport: who calls one may
// have a lock that the callback takes. Of callbacks that come with messages, most are not looked at.
func (m *member) lookAtCaller(what string) {
	if what == "Process" || what == "Received" {
		often := &m.often[0]
		if what == "Received" { // the two alternate: with one counter, every eighth call is always of the same one
			often = &m.often[1]
		}
		if n := often.Add(1); n > 100 && n%8 > 0 {
			return
		}
	}
	m.s.checked("send")
	if method := methodOnStack(); method != "" {
		m.s.violate("send", "%s of member %d is called from inside %s", what, m.id, method)
	}
}
