package rafthttp

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/loglimit"
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

// dropReasons are all of them, in the order of laneCounters.drops.
var dropReasons = [...]DropReason{DropQueueFull, DropDisconnected, DropRefused, DropPaused, DropEnded, DropMemoryLimit, DropTooLarge, DropLocal}

// DropReasonOf sorts the cause that Observer.Dropped is given.
func DropReasonOf(cause error) DropReason { return dropReasons[dropIndex(cause)] }

func dropIndex(cause error) int {
	switch {
	case errors.Is(cause, ErrMemoryLimit):
		return 5
	case errors.Is(cause, ErrExceedSizeLimit):
		return 6
	case errors.Is(cause, ErrLocalMessage):
		return 7
	case errors.Is(cause, ErrQueueFull):
		return 0
	case errors.Is(cause, ErrPaused):
		return 3
	case errors.Is(cause, ErrPeerRemoved), errors.Is(cause, ErrStopped):
		return 4
	case isStatus(cause), errors.Is(cause, ErrMemberRemoved), errors.Is(cause, ErrMemberUnknown),
		errors.Is(cause, ErrClusterIDMismatch), errors.Is(cause, ErrIncompatibleVersion), errors.Is(cause, ErrToMismatch),
		errors.Is(cause, ErrIdentity), errors.Is(cause, errOfRemoved):
		return 2
	default:
		return 1
	}
}

func isStatus(err error) bool {
	_, ok := errors.AsType[*StatusError](err)
	return ok
}

// laneCounters are a lane's totals since it was made.
type laneCounters struct {
	messages   atomic.Uint64 // written to the network, or handed to Process
	bytes      atomic.Uint64 // the same in bytes: on the wire for senders, in memory for receivers
	batches    atomic.Uint64 // what they were written or handed over in
	busy       atomic.Int64  // nanoseconds spent on that
	drops      [len(dropReasons)]atomic.Uint64
	duplicates atomic.Uint64 // appends that were not queued, or not sent, since their entries are under way or were in a snapshot
	droppedLog loglimit.Limiter
}

// done counts a batch that was written, or processed.
func (c *laneCounters) done(messages int, bytes uint64, took time.Duration) {
	c.messages.Add(uint64(messages))
	c.bytes.Add(bytes)
	if messages > 0 { // not a link heartbeat alone
		c.batches.Add(1)
	}
	c.busy.Add(int64(took))
}

// drop counts n messages that were not delivered, and returns how many those are
// in all.
func (c *laneCounters) drop(n int, cause error) (total uint64) {
	c.drops[dropIndex(cause)].Add(uint64(n))
	return c.dropped().Total()
}

func (c *laneCounters) dropped() Drops {
	return Drops{
		QueueFull: c.drops[0].Load(), Disconnected: c.drops[1].Load(), Refused: c.drops[2].Load(),
		Paused: c.drops[3].Load(), Ended: c.drops[4].Load(), MemoryLimit: c.drops[5].Load(), TooLarge: c.drops[6].Load(),
		Local: c.drops[7].Load(),
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
