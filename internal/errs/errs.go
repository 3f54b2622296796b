// Package errs has the errors that several parts of the library return. Package rafthttp exports them under its
// own names.
package errs

import (
	"errors"
	"fmt"
)

var (
	// ErrStopped is rafthttp.ErrStopped.
	ErrStopped = errors.New("rafthttp: transport stopped")

	// ErrPeerRemoved is rafthttp.ErrPeerRemoved.
	ErrPeerRemoved = errors.New("rafthttp: peer removed")

	// ErrLocalMessage is rafthttp.ErrLocalMessage.
	ErrLocalMessage = errors.New("rafthttp: message for the local member or one of raft's local threads")

	// ErrOfRemoved refuses a message that a removed member forwarded, or that another one
	// forwarded for it. Neither may be told that it was removed.
	ErrOfRemoved = errors.New("message of a removed member, or passed on by one")

	// ErrUnexpectedAnswer matches every rafthttp.StatusError.
	ErrUnexpectedAnswer = errors.New("rafthttp: an answer without a meaning in the protocol")

	// ErrQueueFull is rafthttp.ErrQueueFull.
	ErrQueueFull = errors.New("rafthttp: queue is full")

	// ErrMemoryLimit is rafthttp.ErrMemoryLimit, an ErrQueueFull.
	ErrMemoryLimit = fmt.Errorf("%w: all queues together hold MaxQueuedBytes", ErrQueueFull)

	// ErrProcessStalled is rafthttp.ErrProcessStalled, an ErrQueueFull.
	ErrProcessStalled = fmt.Errorf("%w: Process took no append within the read timeout", ErrQueueFull)

	// ErrPaused is rafthttp.ErrPaused.
	ErrPaused = errors.New("rafthttp: peer is paused")

	// ErrStalled is rafthttp.ErrStalled.
	ErrStalled = errors.New("rafthttp: no progress within the read timeout")

	// ErrPeerGone means that the other end of a stream closed it.
	ErrPeerGone = errors.New("rafthttp: the peer closed the stream")

	// ErrNoGroups is rafthttp.ErrNoGroups.
	ErrNoGroups = errors.New("rafthttp: the peer does not serve raft groups (extension groups-1)")

	// ErrUnexpectedData means that the client of a stream sent data on it.
	ErrUnexpectedData = errors.New("rafthttp: the peer sent data on a stream it should only read")
)
