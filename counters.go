package rafthttp

import (
	"github.com/seed-4d73690b/rafthttp/internal/member"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
)

// DropReason is the reason why a message was not delivered. There are few, so that it
// can be the label of a metric.
type DropReason string

// The reasons.
const (
	// DropQueueFull: the lane's limit in messages or bytes was reached.
	DropQueueFull DropReason = "queue_full"
	// DropDisconnected: the connection could not be made, broke, or made no progress.
	DropDisconnected DropReason = "disconnected"
	// DropRefused: the peer answered with an error, or the message was refused
	// because it is not from the peer (ErrIdentity).
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

// dropReasons are all reasons.
var dropReasons = [queue.DropReasons]DropReason{
	queue.DropQueueFull: DropQueueFull, queue.DropDisconnected: DropDisconnected, queue.DropRefused: DropRefused, queue.DropPaused: DropPaused,
	queue.DropEnded: DropEnded, queue.DropMemoryLimit: DropMemoryLimit, queue.DropTooLarge: DropTooLarge, queue.DropLocal: DropLocal,
}

// DropReasonOf classifies the cause given to Observer.Dropped.
func DropReasonOf(cause error) DropReason { return dropReasons[member.ReasonOf(cause)] }

// dropsOf returns the drops of a queue.
func dropsOf(d queue.Drops) Drops {
	return Drops{
		QueueFull: d[queue.DropQueueFull], Disconnected: d[queue.DropDisconnected], Refused: d[queue.DropRefused], Paused: d[queue.DropPaused],
		Ended: d[queue.DropEnded], MemoryLimit: d[queue.DropMemoryLimit], TooLarge: d[queue.DropTooLarge], Local: d[queue.DropLocal],
	}
}
