package member

import (
	"errors"
	"sync/atomic"

	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// ReasonOf classifies the cause of a drop.
func ReasonOf(cause error) queue.DropReason {
	switch {
	case errors.Is(cause, errs.ErrMemoryLimit):
		return queue.DropMemoryLimit
	case errors.Is(cause, wire.ErrExceedSizeLimit):
		return queue.DropTooLarge
	case errors.Is(cause, errs.ErrLocalMessage):
		return queue.DropLocal
	case errors.Is(cause, errs.ErrQueueFull):
		return queue.DropQueueFull
	case errors.Is(cause, errs.ErrPaused):
		return queue.DropPaused
	case errors.Is(cause, errs.ErrPeerRemoved), errors.Is(cause, errs.ErrStopped):
		return queue.DropEnded
	case errors.Is(cause, errs.ErrUnexpectedAnswer), errors.Is(cause, protocol.ErrMemberRemoved), errors.Is(cause, protocol.ErrMemberUnknown),
		errors.Is(cause, protocol.ErrClusterIDMismatch), errors.Is(cause, protocol.ErrIncompatibleVersion), errors.Is(cause, protocol.ErrToMismatch),
		errors.Is(cause, protocol.ErrIdentity), errors.Is(cause, errs.ErrOfRemoved):
		return queue.DropRefused
	default:
		return queue.DropDisconnected
	}
}

// Counters are a member's totals except those of its lanes and streams.
type Counters struct {
	Posted          atomic.Uint64 // bytes of POSTs from the peer
	BadPosts        atomic.Uint64 // POSTs from the peer that could not be read
	SentSnapshots   atomic.Uint64 // bytes of databases to the peer
	GotSnapshots    atomic.Uint64 // bytes of databases from the peer
	FailedSnapshots atomic.Uint64 // to the peer
}
