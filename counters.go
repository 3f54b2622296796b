package rafthttp

import (
	"errors"
	"sync/atomic"

	"github.com/seed-4d73690b/rafthttp/internal/queue"
)

// DropReason says why a message was not delivered. There are few, so that it
// can be the label of a metric.
type DropReason string

// The reasons.
const (
	// DropQueueFull: the lane's bound in messages or bytes was reached.
	DropQueueFull DropReason = "queue_full"
	// DropDisconnected: the connection could not be made, broke, or stood still.
	DropDisconnected DropReason = "disconnected"
	// DropRefused: the peer answered with an error, or the message was refused
	// because it is not the peer's (ErrIdentity).
	DropRefused DropReason = "refused"
	// DropPaused: Pause or CutPeer.
	DropPaused DropReason = "paused"
	// DropEnded: the peer was removed, or the transport stopped.
	DropEnded DropReason = "ended"
	// DropMemoryLimit: MaxQueuedBytes was reached, by all queues together
	// (ErrMemoryLimit).
	DropMemoryLimit DropReason = "memory_limit"
	// DropTooLarge: the message is larger than MaxMessageBytes
	// (ErrExceedSizeLimit).
	DropTooLarge DropReason = "too_large"
	// DropLocal: Send was given a message for the local member, or for one of raft's
	// local threads (ErrLocalMessage).
	DropLocal DropReason = "local"
)

// dropReasons are all of them.
var dropReasons = [queue.DropReasons]DropReason{
	queue.DropQueueFull: DropQueueFull, queue.DropDisconnected: DropDisconnected, queue.DropRefused: DropRefused, queue.DropPaused: DropPaused,
	queue.DropEnded: DropEnded, queue.DropMemoryLimit: DropMemoryLimit, queue.DropTooLarge: DropTooLarge, queue.DropLocal: DropLocal,
}

// DropReasonOf sorts the cause that Observer.Dropped is given.
func DropReasonOf(cause error) DropReason { return dropReasons[dropReason(cause)] }

func dropReason(cause error) queue.DropReason {
	switch {
	case errors.Is(cause, ErrMemoryLimit):
		return queue.DropMemoryLimit
	case errors.Is(cause, ErrExceedSizeLimit):
		return queue.DropTooLarge
	case errors.Is(cause, ErrLocalMessage):
		return queue.DropLocal
	case errors.Is(cause, ErrQueueFull):
		return queue.DropQueueFull
	case errors.Is(cause, ErrPaused):
		return queue.DropPaused
	case errors.Is(cause, ErrPeerRemoved), errors.Is(cause, ErrStopped):
		return queue.DropEnded
	case isStatus(cause), errors.Is(cause, ErrMemberRemoved), errors.Is(cause, ErrMemberUnknown),
		errors.Is(cause, ErrClusterIDMismatch), errors.Is(cause, ErrIncompatibleVersion), errors.Is(cause, ErrToMismatch),
		errors.Is(cause, ErrIdentity), errors.Is(cause, errOfRemoved):
		return queue.DropRefused
	default:
		return queue.DropDisconnected
	}
}

func isStatus(err error) bool {
	_, ok := errors.AsType[*StatusError](err)
	return ok
}

// dropsOf returns what a queue has dropped.
func dropsOf(d queue.Drops) Drops {
	return Drops{
		QueueFull: d[queue.DropQueueFull], Disconnected: d[queue.DropDisconnected], Refused: d[queue.DropRefused], Paused: d[queue.DropPaused],
		Ended: d[queue.DropEnded], MemoryLimit: d[queue.DropMemoryLimit], TooLarge: d[queue.DropTooLarge], Local: d[queue.DropLocal],
	}
}

// memberCounters are a member's totals beside those of its lanes and streams.
type memberCounters struct {
	posted          atomic.Uint64 // bytes of the peer's posts
	badPosts        atomic.Uint64 // of the peer, that could not be read
	sentSnapshots   atomic.Uint64 // bytes of databases
	gotSnapshots    atomic.Uint64 // the same, from the peer
	failedSnapshots atomic.Uint64 // to the peer
}
