package rafthttp

import (
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
	"github.com/seed-4d73690b/rafthttp/internal/snapshot"
)

// What becomes of a snapshot that fails, as the log, Status and the observer of
// its sender have it, and those of its receiver. Beside these, a transfer fails
// with ErrStalled, ErrStopped, ErrPeerRemoved, ErrPaused, ErrQueueFull and what
// other requests fail with.
var (
	// ErrSnapshotSize says that the reader of a snapshot was longer or shorter
	// than its declared size. It is either ErrSnapshotShort or ErrSnapshotLong,
	// but for a size below 0.
	ErrSnapshotSize = snapshot.ErrSize
	// ErrSnapshotShort says that the reader ended before its declared size.
	ErrSnapshotShort = snapshot.ErrShort
	// ErrSnapshotLong says that the reader goes on behind its declared size.
	ErrSnapshotLong = snapshot.ErrLong
	// ErrSnapshotReader says that the reader of a snapshot failed, and wraps its
	// error.
	ErrSnapshotReader = snapshot.ErrReader

	// ErrSnapshotChanged is an ErrSnapshotReader: the file of a snapshot changed while
	// it was sent, as its size or its modification time shows. Nothing of it is
	// finished. The source of a snapshot must not change until it is closed.
	ErrSnapshotChanged = snapshot.ErrChanged

	// ErrSnapshotCut says that the connection of a transfer broke.
	ErrSnapshotCut = protocol.ErrSnapshotCut

	// ErrSnapshotRefused says that the receiver does not take the snapshot.
	ErrSnapshotRefused = protocol.ErrSnapshotRefused
	// ErrSnapshotBusy is an ErrSnapshotRefused: the receiver has MaxSnapshots
	// coming in, or as many from us as leave a place to each other peer.
	ErrSnapshotBusy = protocol.ErrSnapshotBusy

	// ErrSnapshotWriting is an ErrSnapshotRefused: the receiver is still busy with an
	// earlier part of the same snapshot, for instance with a disk that hangs, or with
	// Process. A transfer waits for that, and fails with it after 10 minutes.
	ErrSnapshotWriting = protocol.ErrSnapshotWriting

	// ErrSnapshotNotSaved says that the receiver could not save the database. It
	// is one of the following errors where the reason is known.
	ErrSnapshotNotSaved = protocol.ErrSnapshotNotSaved
	// ErrSnapshotDiskFull is an ErrSnapshotNotSaved: no space or quota is left.
	ErrSnapshotDiskFull = protocol.ErrSnapshotDiskFull
	// ErrSnapshotPermission is an ErrSnapshotNotSaved: the receiver may not write
	// there.
	ErrSnapshotPermission = protocol.ErrSnapshotPermission
	// ErrSnapshotDisk is an ErrSnapshotNotSaved: input or output failed.
	ErrSnapshotDisk = protocol.ErrSnapshotDisk
	// ErrSnapshotChecksum is an ErrSnapshotNotSaved: what arrived is not what was
	// sent.
	ErrSnapshotChecksum = protocol.ErrSnapshotChecksum
)
