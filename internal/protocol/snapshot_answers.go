package protocol

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"syscall"

	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// Causes of a failed transfer, at its sender, as far as an answer states them. Package rafthttp exports them under the
// same names, with their full descriptions.
var (
	// ErrSnapshotCut means that the connection of a transfer broke.
	ErrSnapshotCut = errors.New("rafthttp: the connection of a snapshot was cut")

	// ErrSnapshotRefused means that the receiver does not accept the snapshot.
	ErrSnapshotRefused = errors.New("rafthttp: snapshot refused")
	// ErrSnapshotBusy means that the receiver has reached its limit of snapshots.
	ErrSnapshotBusy = fmt.Errorf("%w: too many snapshots in flight", ErrSnapshotRefused)
	// ErrSnapshotWriting means that the receiver is still writing an earlier part.
	ErrSnapshotWriting = fmt.Errorf("%w: still writing an earlier part of it", ErrSnapshotRefused)

	// ErrSnapshotNotSaved means that the receiver could not save the database; the
	// following errors state the cause.
	ErrSnapshotNotSaved = errors.New("rafthttp: database snapshot not saved")
	// ErrSnapshotDiskFull means that no space or quota is left.
	ErrSnapshotDiskFull = fmt.Errorf("%w: disk full", ErrSnapshotNotSaved)
	// ErrSnapshotPermission means that the receiver has no write permission there.
	ErrSnapshotPermission = fmt.Errorf("%w: no permission", ErrSnapshotNotSaved)
	// ErrSnapshotDisk means an I/O error.
	ErrSnapshotDisk = fmt.Errorf("%w: input/output error", ErrSnapshotNotSaved)
	// ErrSnapshotChecksum means that the database received differs from the one sent.
	ErrSnapshotChecksum = fmt.Errorf("%w: checksum differs", ErrSnapshotNotSaved)
)

// Refusals of a snapshot by its receiver.
var (
	// ErrTooManySnapshots refuses one over MaxSnapshots, or over its sender's share of them.
	ErrTooManySnapshots = errors.New("too many snapshots in flight")
	// ErrNoSnapshotter refuses one because there is no Snapshotter to save it.
	ErrNoSnapshotter = errors.New("this member takes no database snapshots")
	// ErrSnapshotOffset refuses one that does not continue at the end of an earlier part.
	ErrSnapshotOffset = errors.New("the snapshot is not there up to this offset")
	// ErrStillWriting refuses one of which an earlier part is still being written to the disk.
	ErrStillWriting = errors.New("still writing an earlier part of this snapshot")

	// ErrGroupUnknown refuses a snapshot of a raft group that is not here.
	ErrGroupUnknown = &RequestError{Code: http.StatusNotFound, Text: "raft group not found"}
	// ErrNotResuming refuses a request of the extension by a member without it.
	ErrNotResuming = &RequestError{Code: http.StatusNotFound, Text: "this member does not resume snapshots"}
)

// snapshotRefusals are the answers by which a receiver refuses a snapshot, and their meaning for the sender.
var snapshotRefusals = []struct {
	err   error // at the receiver; its text is the body
	code  int
	means error // at the sender
}{
	{ErrTooManySnapshots, http.StatusServiceUnavailable, ErrSnapshotBusy},
	{ErrStillWriting, http.StatusConflict, ErrSnapshotWriting},
	{ErrSnapshotOffset, http.StatusConflict, ErrSnapshotOffset},
	{ErrNoSnapshotter, http.StatusNotImplemented, ErrSnapshotRefused},
}

// ErrSnapshotUnavailable means that the receiver is restarting, or Process is behind, or a proxy does not reach it.
var ErrSnapshotUnavailable = fmt.Errorf("%w: unavailable", ErrSnapshotRefused)

// snapshotMeaning returns the meaning of an answer to a snapshot, or to the question, that has no other meaning
// (PROTOCOL.md, section 4). body is its first line.
func snapshotMeaning(code int, body string) error {
	for _, r := range snapshotRefusals {
		if code == r.code && body == r.err.Error() {
			return r.means
		}
	}
	switch code {
	case http.StatusConflict:
		return ErrSnapshotOffset
	case http.StatusServiceUnavailable, http.StatusBadGateway, http.StatusGatewayTimeout:
		return ErrSnapshotUnavailable
	case http.StatusInternalServerError:
		return notSavedBecause(body)
	}
	return ErrSnapshotRefused
}

// savingFailed begins the body of an answer 500 to a database that was not saved. The text of a reason follows in brackets,
// if one matches, then a colon and details.
const savingFailed = "failed to save database snapshot"

// maxReason limits the body, which is one line.
const maxReason = 256

// reasons for which a database is not saved, in both directions.
var reasons = []struct {
	err  error
	text string
	is   []error
}{
	{ErrSnapshotDiskFull, "disk full", []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG}},
	{ErrSnapshotPermission, "no permission", []error{fs.ErrPermission, syscall.EROFS}},
	{ErrSnapshotDisk, "input/output error", []error{syscall.EIO}},
	{ErrSnapshotChecksum, "checksum differs", []error{snap.ErrChecksum}},
	{ErrSnapshotCut, "connection cut", []error{ErrSnapshotCut}},
	{errs.ErrStalled, "stalled", []error{errs.ErrStalled}},
}

// saveError is the reason why a database was not saved, at its receiver.
type saveError struct {
	reason error // of reasons, or ErrSnapshotNotSaved
	text   string
	err    error
}

// SnapshotNotSaved returns the reason why a database was not saved, at its receiver. Its text is the body of the
// answer, with status 500.
func SnapshotNotSaved(err error) error {
	for _, r := range reasons {
		if slices.ContainsFunc(r.is, func(is error) bool { return errors.Is(err, is) }) {
			return &saveError{reason: r.err, text: " (" + r.text + ")", err: err}
		}
	}
	return &saveError{reason: ErrSnapshotNotSaved, err: err}
}

// Error is the body of the answer.
func (e *saveError) Error() string {
	line, _, _ := strings.Cut(savingFailed+e.text+": "+e.err.Error(), "\n")
	return strings.ToValidUTF8(strings.TrimSpace(line[:min(len(line), maxReason)]), "?")
}

func (e *saveError) Unwrap() []error { return []error{e.reason, e.err} }

// notSavedBecause is the inverse of SnapshotNotSaved.
func notSavedBecause(body string) error {
	rest, ok := strings.CutPrefix(body, savingFailed)
	if !ok {
		return ErrSnapshotRefused // by Process
	}
	for _, r := range reasons {
		if strings.HasPrefix(rest, " ("+r.text+"): ") {
			return r.err
		}
	}
	return ErrSnapshotNotSaved
}
