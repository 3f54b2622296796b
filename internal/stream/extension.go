package stream

import (
	"net/http"
	"sync/atomic"

	"github.com/seed-4d73690b/rafthttp/internal/protocol"
)

// Extension is what is known about the extension groups-1 of a peer. Its zero value knows nothing. All methods are safe for
// concurrent use.
type Extension struct {
	state atomic.Uint64 // what is known, below how often it was forgotten
}

const (
	unknown uint64 = iota
	lacking
	present
	states
)

// Question is a question to a peer, by a probe.
type Question struct{ time uint64 } // how often what is known was forgotten before

// Ask begins a question. It is called before the URL is picked.
func (e *Extension) Ask() Question { return Question{e.state.Load() / states} }

// Learn notes what the answer to a question states, and returns it. It notes nothing if what is known was forgotten since: the answer
// may be that of another process.
func (e *Extension) Learn(q Question, answer http.Header) bool {
	has, known := protocol.HasExtension(answer, protocol.ExtensionGroups), lacking
	if has {
		known = present
	}
	for now := e.state.Load(); now/states == q.time; now = e.state.Load() {
		if e.state.CompareAndSwap(now, q.time*states+known) {
			break
		}
	}
	return has
}

// Forget notes that another process may answer from now on.
func (e *Extension) Forget() {
	for {
		now := e.state.Load()
		if e.state.CompareAndSwap(now, (now/states+1)*states+unknown) {
			return
		}
	}
}

// ForgetLack is Forget if the extension was missing: the peer may have it now.
func (e *Extension) ForgetLack() {
	if now := e.state.Load(); now%states == lacking {
		e.state.CompareAndSwap(now, now-lacking)
	}
}

// IsPresent reports whether the peer had the extension when it was last asked.
func (e *Extension) IsPresent() bool { return e.state.Load()%states == present }

// IsLacking reports whether the peer did not have the extension when it was last asked.
func (e *Extension) IsLacking() bool { return e.state.Load()%states == lacking }
