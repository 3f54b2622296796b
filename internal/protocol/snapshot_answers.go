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

// Why a transfer fails, at its sender, as far as an answer says it. Package rafthttp has these under the same names, and says
// more of each.
var (
	// ErrSnapshotCut says that the connection of a transfer broke.
	ErrSnapshotCut = errors.New("rafthttp: the connection of a snapshot was cut")

	// ErrSnapshotRefused says that the receiver does not take the snapshot.
	ErrSnapshotRefused = errors.New("rafthttp: snapshot refused")
	// ErrSnapshotBusy says that it has as many as it takes.
	ErrSnapshotBusy = fmt.Errorf("%w: too many snapshots in flight", ErrSnapshotRefused)
	// ErrSnapshotWriting says that it still writes an earlier part.
	ErrSnapshotWriting = fmt.Errorf("%w: still writing an earlier part of it", ErrSnapshotRefused)

	// ErrSnapshotNotSaved says that the receiver could not save the database; those
	// that follow say why.
	ErrSnapshotNotSaved = errors.New("rafthttp: database snapshot not saved")
	// ErrSnapshotDiskFull says that no space or quota is left.
	ErrSnapshotDiskFull = fmt.Errorf("%w: disk full", ErrSnapshotNotSaved)
	// ErrSnapshotPermission says that the receiver may not write there.
	ErrSnapshotPermission = fmt.Errorf("%w: no permission", ErrSnapshotNotSaved)
	// ErrSnapshotDisk says that input or output failed.
	ErrSnapshotDisk = fmt.Errorf("%w: input/output error", ErrSnapshotNotSaved)
	// ErrSnapshotChecksum says that the database did not arrive as it was sent.
	ErrSnapshotChecksum = fmt.Errorf("%w: checksum differs", ErrSnapshotNotSaved)
)

// What a receiver refuses a snapshot with.
var (
	// ErrTooManySnapshots refuses one over MaxSnapshots, or over its sender's share of them.
	ErrTooManySnapshots = errors.New("too many snapshots in flight")
	// ErrNoSnapshotter refuses one for want of a place to save it.
	ErrNoSnapshotter = errors.New("this member takes no database snapshots")
	// ErrSnapshotOffset refuses one that goes on where nothing ends.
	ErrSnapshotOffset = errors.New("the snapshot is not there up to this offset")
	// ErrStillWriting refuses one of which an earlier part is still on its way to the disk.
	ErrStillWriting = errors.New("still writing an earlier part of this snapshot")

	// ErrNotResuming refuses one of the extension where there is none.
	ErrNotResuming = &RequestError{Code: http.StatusNotFound, Text: "this member does not resume snapshots"}
)

// snapshotRefusals are the answers by which a receiver refuses a snapshot, and what their sender takes them for.
var snapshotRefusals = []struct {
	err   error // at the receiver, whose text is the body
	code  int
	means error // at the sender
}{
	{ErrTooManySnapshots, http.StatusServiceUnavailable, ErrSnapshotBusy},
	{ErrStillWriting, http.StatusConflict, ErrSnapshotWriting},
	{ErrSnapshotOffset, http.StatusConflict, ErrSnapshotOffset},
	{ErrNoSnapshotter, http.StatusNotImplemented, ErrSnapshotRefused},
}

// ErrSnapshotUnavailable says that the receiver is being restarted, or behind with Process, or that a proxy does not reach it.
var ErrSnapshotUnavailable = fmt.Errorf("%w: unavailable", ErrSnapshotRefused)

// snapshotMeaning returns what the answer to a snapshot, or to the question, means that has no other meaning (PROTOCOL.md,
// section 4). Body is its first line.
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
// where one fits, then a colon and details.
const savingFailed = "failed to save database snapshot"

// maxReason bounds the body: it is one line.
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

// saveError is why a database was not saved, at its receiver.
type saveError struct {
	reason error // of reasons, or ErrSnapshotNotSaved
	text   string
	err    error
}

// SnapshotNotSaved returns why a database was not saved, at its receiver. Its text is the body of the answer, with status 500.
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

// notSavedBecause is the other direction.
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
