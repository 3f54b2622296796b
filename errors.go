package rafthttp

import (
	"fmt"
	"strings"

	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
	"github.com/seed-4d73690b/rafthttp/internal/snapshot"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// Errors that callers act on. Match them with errors.Is: what is returned or
// logged usually wraps one of them with the member and the URL it concerns.
var (
	// ErrClusterIDMismatch says that the other member belongs to another
	// cluster. Its text is the body of the answer on the wire.
	ErrClusterIDMismatch = protocol.ErrClusterIDMismatch

	// ErrIncompatibleVersion says that one of the two members is too old for
	// the other. Its text is the body of the answer on the wire.
	ErrIncompatibleVersion = protocol.ErrIncompatibleVersion

	// ErrToMismatch says that a request reached a member other than the one it
	// was meant for, usually because of a wrong peer URL. Its text is the body
	// of the answer on the wire.
	ErrToMismatch = protocol.ErrToMismatch

	// ErrMemberRemoved says that a member was removed from the cluster for
	// good. It is sent to Transport.ErrorC when a peer says so of the local
	// member: by 410 to a stream, or 403 to a post or a snapshot, in an answer that
	// states our cluster id. In the other direction, a Raft whose Process returns an error
	// that is ErrMemberRemoved has the sender of a post told so (403), upon
	// which a stock sender stops itself: return it only for a message whose From
	// is known to be removed. A sender that has passed on another member's message
	// is not told.
	ErrMemberRemoved = protocol.ErrMemberRemoved

	// ErrMemberUnknown says that the other side does not know the member: the
	// peer has not learned of us yet, or SendSnapshot was given a message to a
	// member that is not a peer.
	ErrMemberUnknown = protocol.ErrMemberUnknown

	// ErrExceedSizeLimit says that a message is larger than MaxMessageBytes, on
	// the wire or decoded. One given to Send is dropped for it.
	ErrExceedSizeLimit = wire.ErrExceedSizeLimit

	// ErrLocalMessage says that Send was given a message for the local member, or for
	// one of raft's local threads (Config.AsyncStorageWrites), and dropped it: it is not
	// for the network, and raft may wait for it. SplitMessages and DeliverResponses
	// bring such messages where they belong.
	ErrLocalMessage = errs.ErrLocalMessage

	// ErrIdentity says that a connection, a request or a message is not of the
	// member that it is said to be of: Transport.VerifyPeer refused its
	// certificate, or its From is another member.
	ErrIdentity = protocol.ErrIdentity

	// ErrStopped is the cause of everything that ends because of
	// Transport.Stop.
	ErrStopped = errs.ErrStopped

	// ErrPeerRemoved is the cause of everything that ends because of RemovePeer
	// or RemoveAllPeers.
	ErrPeerRemoved = errs.ErrPeerRemoved

	// ErrQueueFull says that a message or snapshot was dropped because the
	// queue for it was full.
	ErrQueueFull = errs.ErrQueueFull

	// ErrMemoryLimit says that a message was dropped because all queues together
	// hold MaxQueuedBytes. It is an ErrQueueFull.
	ErrMemoryLimit = errs.ErrMemoryLimit

	// ErrProcessStalled says that a stream of appends was closed since the
	// receive queue was full and Process took none for ReadTimeout. It is an
	// ErrQueueFull.
	ErrProcessStalled = errs.ErrProcessStalled

	// ErrStalled says that nothing moved on a connection or a snapshot
	// transfer for ReadTimeout.
	ErrStalled = errs.ErrStalled

	// ErrPaused says that a message or snapshot was dropped because of Pause or
	// CutPeer.
	ErrPaused = errs.ErrPaused
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

// ConfigError says which field of a Transport, or of a ListenConfig, cannot work, and
// what would. Transport.Start, Mux.Add and ListenConfig.Listen return it.
type ConfigError struct {
	Field string // name of the field of Transport, such as "ReadTimeout" or "Observer.SlowProcessAfter", or "ListenConfig.MaxConns"
	Value any    // what it was set to
	Want  string // what would be right
}

// Error implements error.
func (e *ConfigError) Error() string {
	name := e.Field
	if !strings.HasPrefix(name, "ListenConfig.") {
		name = "Transport." + name
	}
	return fmt.Sprintf("rafthttp: %s is %v: want %s", name, e.Value, e.Want)
}

// StatusError is an answer of a peer that the protocol gives no meaning to.
type StatusError struct {
	Code int    // HTTP status
	Body string // first line of the body, at most 256 bytes

	answer *protocol.UnexpectedAnswer
}

// statusError is what users know an answer as.
func statusError(a *protocol.UnexpectedAnswer) error {
	return &StatusError{Code: a.Code, Body: a.Body, answer: a}
}

// Unwrap returns the answer, which may wrap what became of a snapshot, such as
// ErrSnapshotDiskFull.
func (e *StatusError) Unwrap() error {
	if e.answer == nil {
		return nil
	}
	return e.answer
}

// Error implements error.
func (e *StatusError) Error() string {
	return (&protocol.UnexpectedAnswer{Code: e.Code, Body: e.Body}).Error()
}
