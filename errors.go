package rafthttp

import (
	"fmt"
	"strings"

	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
	"github.com/seed-4d73690b/rafthttp/internal/snapshot"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// Errors that callers act on. Match them with errors.Is: returned and
// logged errors usually wrap one of them with the member and the URL concerned.
var (
	// ErrClusterIDMismatch means that the other member belongs to another
	// cluster. Its text is the body of the answer on the wire.
	ErrClusterIDMismatch = protocol.ErrClusterIDMismatch

	// ErrIncompatibleVersion means that one of the two members is too old for
	// the other. Its text is the body of the answer on the wire.
	ErrIncompatibleVersion = protocol.ErrIncompatibleVersion

	// ErrToMismatch means that a request reached a member other than the intended
	// one, usually because of a wrong peer URL. Its text is the body
	// of the answer on the wire.
	ErrToMismatch = protocol.ErrToMismatch

	// ErrMemberRemoved means that a member was removed from the cluster
	// permanently. It is sent to Transport.ErrorC when a peer says so of the local
	// member: by 410 to a stream, or 403 to a POST or a snapshot, in an answer that
	// states our cluster id. In the other direction, if Process returns an error
	// that is ErrMemberRemoved, the sender of a POST is told so (403), and
	// a stock sender then stops itself: return it only for a message whose From
	// is known to be removed. A sender that has forwarded another member's message
	// is not told.
	ErrMemberRemoved = protocol.ErrMemberRemoved

	// ErrMemberUnknown means that the other side does not know the member: the
	// peer has not learned of us yet, or SendSnapshot was given a message to a
	// member that is not a peer.
	ErrMemberUnknown = protocol.ErrMemberUnknown

	// ErrExceedSizeLimit means that a message is larger than MaxMessageBytes, on
	// the wire or decoded. Such a message given to Send is dropped.
	ErrExceedSizeLimit = wire.ErrExceedSizeLimit

	// ErrLocalMessage means that Send was given a message for the local member, or for
	// one of raft's local threads (Config.AsyncStorageWrites), and dropped it: it is not
	// for the network, and raft may wait for it. SplitMessages and DeliverResponses
	// handle such messages.
	ErrLocalMessage = errs.ErrLocalMessage

	// ErrIdentity means that a connection, a request or a message is not from its
	// stated member: Transport.VerifyPeer refused the
	// certificate, or From is another member.
	ErrIdentity = protocol.ErrIdentity

	// ErrNoGroups means that a node does not have the extension groups-1: it is a stock member, or has no raft groups.
	// Messages of groups are not sent to it.
	ErrNoGroups = errs.ErrNoGroups

	// ErrStopped is the cause of everything that ends because of
	// Transport.Stop.
	ErrStopped = errs.ErrStopped

	// ErrPeerRemoved is the cause of everything that ends because of RemovePeer
	// or RemoveAllPeers.
	ErrPeerRemoved = errs.ErrPeerRemoved

	// ErrQueueFull means that a message or snapshot was dropped because
	// its queue was full.
	ErrQueueFull = errs.ErrQueueFull

	// ErrMemoryLimit means that a message was dropped because all queues together
	// hold MaxQueuedBytes. It is an ErrQueueFull.
	ErrMemoryLimit = errs.ErrMemoryLimit

	// ErrProcessStalled means that a stream of appends was closed because the
	// receive queue was full and Process took none for ReadTimeout. It is an
	// ErrQueueFull.
	ErrProcessStalled = errs.ErrProcessStalled

	// ErrStalled means that nothing moved on a connection or a snapshot
	// transfer for ReadTimeout.
	ErrStalled = errs.ErrStalled

	// ErrPaused means that a message or snapshot was dropped because of Pause or
	// CutPeer.
	ErrPaused = errs.ErrPaused
)

// Errors of snapshots, as reported by the log, Status and the Observer of
// the sender, and by those of the receiver. A transfer can also fail
// with ErrStalled, ErrStopped, ErrPeerRemoved, ErrPaused, ErrQueueFull and the
// errors of other requests.
var (
	// ErrSnapshotSize means that the reader of a snapshot was longer or shorter
	// than its declared size. It is either ErrSnapshotShort or ErrSnapshotLong,
	// except for a size below 0.
	ErrSnapshotSize = snapshot.ErrSize
	// ErrSnapshotShort means that the reader ended before its declared size.
	ErrSnapshotShort = snapshot.ErrShort
	// ErrSnapshotLong means that the reader continues after its declared size.
	ErrSnapshotLong = snapshot.ErrLong
	// ErrSnapshotReader means that the reader of a snapshot failed, and wraps its
	// error.
	ErrSnapshotReader = snapshot.ErrReader

	// ErrSnapshotChanged is an ErrSnapshotReader: the file of a snapshot changed while
	// it was sent, as its size or its modification time shows. The transfer is not
	// completed. The source of a snapshot must not change until it is closed.
	ErrSnapshotChanged = snapshot.ErrChanged

	// ErrSnapshotCut means that the connection of a transfer broke.
	ErrSnapshotCut = protocol.ErrSnapshotCut

	// ErrSnapshotRefused means that the receiver does not accept the snapshot.
	ErrSnapshotRefused = protocol.ErrSnapshotRefused
	// ErrSnapshotBusy is an ErrSnapshotRefused: the receiver has MaxSnapshots
	// in progress, or as many from us as leave a place to each other peer.
	ErrSnapshotBusy = protocol.ErrSnapshotBusy

	// ErrSnapshotWriting is an ErrSnapshotRefused: the receiver is still working on an
	// earlier part of the same snapshot, for instance with a disk that hangs, or in
	// Process. A transfer waits for that, and fails with it after 10 minutes.
	ErrSnapshotWriting = protocol.ErrSnapshotWriting

	// ErrSnapshotNotSaved means that the receiver could not save the database. It
	// is one of the following errors if the cause is known.
	ErrSnapshotNotSaved = protocol.ErrSnapshotNotSaved
	// ErrSnapshotDiskFull is an ErrSnapshotNotSaved: no space or quota is left.
	ErrSnapshotDiskFull = protocol.ErrSnapshotDiskFull
	// ErrSnapshotPermission is an ErrSnapshotNotSaved: the receiver has no write
	// permission there.
	ErrSnapshotPermission = protocol.ErrSnapshotPermission
	// ErrSnapshotDisk is an ErrSnapshotNotSaved: an I/O error.
	ErrSnapshotDisk = protocol.ErrSnapshotDisk
	// ErrSnapshotChecksum is an ErrSnapshotNotSaved: the data received differ from
	// the data sent.
	ErrSnapshotChecksum = protocol.ErrSnapshotChecksum
)

// ConfigError describes an invalid field of a Transport or of a ListenConfig, and
// the valid values. Transport.Start, Mux.Add and ListenConfig.Listen return it.
type ConfigError struct {
	Field string // name of the field of Transport, such as "ReadTimeout" or "Observer.SlowProcessAfter", or "ListenConfig.MaxConns"
	Value any    // its value
	Want  string // the valid values
}

// Error implements error.
func (e *ConfigError) Error() string {
	name := e.Field
	if !strings.HasPrefix(name, "ListenConfig.") {
		name = "Transport." + name
	}
	return fmt.Sprintf("rafthttp: %s is %v: want %s", name, e.Value, e.Want)
}

// StatusError is an answer of a peer that has no meaning in the protocol.
type StatusError struct {
	Code int    // HTTP status
	Body string // first line of the body, at most 256 bytes

	cause error // what the answer says about a snapshot, or nil
}

// statusError converts an unexpected answer to the exported type.
func statusError(a *protocol.UnexpectedAnswer) error {
	return &StatusError{Code: a.Code, Body: a.Body, cause: a.Cause}
}

// Unwrap returns the cause of a failed snapshot, such as ErrSnapshotDiskFull, or nil.
func (e *StatusError) Unwrap() error { return e.cause }

// Is reports whether target stands for all answers without a meaning. It is for errors.Is.
func (e *StatusError) Is(target error) bool { return target == errs.ErrUnexpectedAnswer }

// Error implements error.
func (e *StatusError) Error() string {
	return (&protocol.UnexpectedAnswer{Code: e.Code, Body: e.Body}).Error()
}
