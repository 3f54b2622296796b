// Package api is the client API as both ends see it: what goes over HTTP as
// JSON, and the errors. See the server package for the routes.
package api

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"time"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/storage"
)

// Limits of a request, in bytes.
const (
	MaxKeyBytes   = 1 << 10
	MaxValueBytes = 1 << 20
)

// ETag names a value: two values have the same one only if they are equal.
func ETag(value []byte) string {
	sum := sha256.Sum256(value)
	return `"` + hex.EncodeToString(sum[:]) + `"`
}

// Written is the answer to a write: it is in the log of a majority, and applied
// by the member that answers.
type Written struct {
	Index uint64 `json:"index"` // of the log entry
}

// Cluster is who belongs to the cluster.
type Cluster struct {
	ID      uint64           `json:"cluster_id"`
	Members []storage.Member `json:"members"` // by id
}

// Status is how one member sees itself, its group, and its connections.
type Status struct {
	ID        uint64           `json:"id"`
	ClusterID uint64           `json:"cluster_id"`
	Role      string           `json:"role"`   // leader, follower, candidate, learner
	Leader    uint64           `json:"leader"` // 0: none known
	Term      uint64           `json:"term"`
	Commit    uint64           `json:"commit"`
	Applied   uint64           `json:"applied"`
	Log       LogStatus        `json:"log"`
	DBSize    int64            `json:"db_size"` // of the data file, in bytes
	Members   []storage.Member `json:"members"`
	Snapshots SnapshotStatus   `json:"snapshots"`
	Transport rafthttp.Status  `json:"transport"`
}

// LogStatus says what a member's log holds.
type LogStatus struct {
	First uint64 `json:"first"` // index of the first entry; First > Last: it is empty
	Last  uint64 `json:"last"`
	Bytes int64  `json:"bytes"` // of data in these entries
}

// SnapshotStatus counts a member's snapshots since it was started.
type SnapshotStatus struct {
	Sent     uint64 `json:"sent"`
	Failed   uint64 `json:"failed"` // of those that were to be sent
	Received uint64 `json:"received"`

	LastReceivedBytes int64         `json:"last_received_bytes"`
	LastReceivedTime  time.Duration `json:"last_received_time"` // from the first byte until it was durable, in nanoseconds
}

// Error is an answer that is not the one that was asked for. It is the body of
// every answer with a status of 400 and above.
type Error struct {
	Status int    `json:"-"`
	Code   string `json:"code"`  // for programs, one of the below
	Text   string `json:"error"` // for people
	// ETag is that of the value there is, with ErrChanged; empty: there is none.
	ETag string `json:"etag,omitempty"`
}

// Error implements error.
func (e *Error) Error() string { return e.Text }

// Is matches errors by their code, so that errors.Is finds the ones below.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// Detail returns the error with more of an explanation.
func (e *Error) Detail(format string, args ...any) *Error {
	return &Error{Status: e.Status, Code: e.Code, Text: e.Text + ": " + fmt.Sprintf(format, args...), ETag: e.ETag}
}

// Retry says whether the same request may well succeed later, or at another
// member. After a write, the first attempt may have been carried out all the
// same.
func (e *Error) Retry() bool {
	return e.Status == http.StatusServiceUnavailable || e.Status == http.StatusGatewayTimeout
}

func newError(status int, code, text string) *Error {
	return &Error{Status: status, Code: code, Text: text}
}

// What can go wrong.
var (
	ErrBadRequest     = newError(http.StatusBadRequest, "bad_request", "bad request")
	ErrKeyNotFound    = newError(http.StatusNotFound, "key_not_found", "no such key")
	ErrMemberNotFound = newError(http.StatusNotFound, "member_not_found", "no such member")
	ErrNoRoute        = newError(http.StatusNotFound, "no_route", "no such resource, or not with this method")
	ErrMemberExists   = newError(http.StatusConflict, "member_exists", "there is another member with this id or peer URL")
	ErrMemberRemoved  = newError(http.StatusGone, "member_removed", "this id belonged to a member that was removed; an id is used once, choose another")
	ErrLastVoter      = newError(http.StatusConflict, "last_voter", "the last voting member cannot be removed")
	ErrChanged        = newError(http.StatusPreconditionFailed, "changed", "the key does not have the value that the condition names; nothing was done")
	ErrTooLarge       = newError(http.StatusRequestEntityTooLarge, "too_large", "the value is too large")
	ErrInternal       = newError(http.StatusInternalServerError, "internal", "internal error")

	ErrOverloaded    = newError(http.StatusServiceUnavailable, "overloaded", "too many requests in progress")
	ErrStopping      = newError(http.StatusServiceUnavailable, "stopping", "this member is stopping")
	ErrDropped       = newError(http.StatusServiceUnavailable, "dropped", "the leader did not take the proposal")
	ErrLeaderChanged = newError(http.StatusServiceUnavailable, "leader_changed", "the leader was lost while the request was in progress; it may have been carried out")
	ErrNoLeader      = newError(http.StatusServiceUnavailable, "no_leader", "no leader within the time limit")
	ErrTimeout       = newError(http.StatusGatewayTimeout, "timeout", "no answer from the group within the time limit; the request may have been carried out")
)
