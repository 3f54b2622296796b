package member

import (
	"errors"
	"sync/atomic"

	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// ReasonOf sorts the cause of a drop.
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
	case isAnswer(cause), errors.Is(cause, protocol.ErrMemberRemoved), errors.Is(cause, protocol.ErrMemberUnknown),
		errors.Is(cause, protocol.ErrClusterIDMismatch), errors.Is(cause, protocol.ErrIncompatibleVersion), errors.Is(cause, protocol.ErrToMismatch),
		errors.Is(cause, protocol.ErrIdentity), errors.Is(cause, errs.ErrOfRemoved):
		return queue.DropRefused
	default:
		return queue.DropDisconnected
	}
}

// isAnswer reports whether err is an answer that the protocol gives no meaning to.
func isAnswer(err error) bool {
	_, ok := errors.AsType[*protocol.UnexpectedAnswer](err)
	return ok
}

// Counters are a member's totals beside those of its lanes and streams.
type Counters struct {
	Posted          atomic.Uint64 // bytes of the peer's posts
	BadPosts        atomic.Uint64 // of the peer, that could not be read
	SentSnapshots   atomic.Uint64 // bytes of databases
	GotSnapshots    atomic.Uint64 // the same, from the peer
	FailedSnapshots atomic.Uint64 // to the peer
}

// IdentityCounters count what was refused because it is not of the member that
// it says it is of: those of the settings everything, those of a member what was
// said to be of its member.
type IdentityCounters struct {
	Dials, Requests, Messages atomic.Uint64
}
