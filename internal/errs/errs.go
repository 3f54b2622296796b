// Package errs has the errors that several parts of the library return. Package rafthttp has them under the names that its
// users know.
package errs

import "errors"

var (
	// ErrStopped is rafthttp.ErrStopped.
	ErrStopped = errors.New("rafthttp: transport stopped")

	// ErrQueueFull is rafthttp.ErrQueueFull.
	ErrQueueFull = errors.New("rafthttp: queue is full")

	// ErrStalled is rafthttp.ErrStalled.
	ErrStalled = errors.New("rafthttp: no progress within the read timeout")
)
