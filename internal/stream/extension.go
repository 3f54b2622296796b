package stream

import (
	"net/http"
	"sync/atomic"

	"github.com/seed-4d73690b/rafthttp/internal/protocol"
)

// Extension is what is known about the extension groups-1 of a peer. Its zero value knows nothing. All methods are safe for
// concurrent use.
type Extension struct{ known atomic.Int32 }

const (
	unknown int32 = iota
	lacking
	present
)

// Learn notes what the answer to a probe states, and returns it.
func (e *Extension) Learn(answer http.Header) bool {
	if protocol.HasExtension(answer, protocol.ExtensionGroups) {
		e.known.Store(present)
		return true
	}
	e.known.Store(lacking)
	return false
}

// Forget notes that another process may answer from now on.
func (e *Extension) Forget() { e.known.Store(unknown) }

// ForgetLack is Forget if the extension was missing: the peer may have it now.
func (e *Extension) ForgetLack() { e.known.CompareAndSwap(lacking, unknown) }

// IsPresent reports whether the peer had the extension when it was last asked.
func (e *Extension) IsPresent() bool { return e.known.Load() == present }

// IsLacking reports whether the peer did not have the extension when it was last asked.
func (e *Extension) IsLacking() bool { return e.known.Load() == lacking }
