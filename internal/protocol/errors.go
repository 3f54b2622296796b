package protocol

import (
	"errors"
	"fmt"
	"net/http"
)

// Errors that an answer represents, or that cause one. Package rafthttp exports the first of them under the same names,
// with their full descriptions.
var (
	// ErrClusterIDMismatch means that the other member belongs to another cluster.
	ErrClusterIDMismatch = errors.New("cluster ID mismatch")
	// ErrIncompatibleVersion means that one of the two members is too old for the other.
	ErrIncompatibleVersion = errors.New("incompatible version")
	// ErrToMismatch means that a request reached a member other than the intended one.
	ErrToMismatch = errors.New("to field mismatch")
	// ErrMemberRemoved means that a member was removed from the cluster.
	ErrMemberRemoved = errors.New("the member has been permanently removed from the cluster")
	// ErrMemberUnknown means that the other side does not know the member.
	ErrMemberUnknown = errors.New("member not found")
	// ErrIdentity means that a request is not from its stated member.
	ErrIdentity = errors.New("rafthttp: identity of the member is not proven")

	// ErrMemberGone means that the requester is removed: 410 to a stream, 403 to its own
	// message.
	ErrMemberGone = fmt.Errorf("removed member: %w", ErrMemberRemoved)
	// ErrNoStream refuses a stream that could not be written, or not with a limit for each
	// write: its messages would be lost without a report.
	ErrNoStream = errors.New("cannot serve a stream on a response that cannot be hijacked either")
	// ErrBusyPosts refuses a POST over the limit.
	ErrBusyPosts = errors.New("too many posts in flight")
	// ErrMethodNotAllowed refuses a request with another method than its endpoint's.
	ErrMethodNotAllowed = errors.New("Method Not Allowed") //nolint:staticcheck // the text goes over the wire
	// ErrNotStarted refuses all requests until Start.
	ErrNotStarted = errors.New("rafthttp: transport is not started")
)

// IdentityRefusal refuses a request or a message that is not from its stated member. It is an ErrIdentity.
type IdentityRefusal struct {
	Text  string // body of the answer
	Cause error  // for the log
}

// Error is the body of the answer.
func (e *IdentityRefusal) Error() string { return e.Text }

// Unwrap returns ErrIdentity and Cause.
func (e *IdentityRefusal) Unwrap() []error { return []error{ErrIdentity, e.Cause} }

// RequestError is a fault of the requester: it is answered with its status and its text, and costs the requester only
// the request.
type RequestError struct {
	Code int    // HTTP status
	Text string // body of the answer
}

// Error implements error.
func (e *RequestError) Error() string { return e.Text }

// BadRequest returns a RequestError with status 400.
func BadRequest(format string, args ...any) error {
	return &RequestError{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

// UnexpectedAnswer is an answer that has no meaning in the protocol. Package rafthttp converts it to StatusError.
type UnexpectedAnswer struct {
	Code  int    // HTTP status
	Body  string // first line of the body, at most 256 bytes
	Cause error  // what the answer says of a snapshot, or nil
}

// Error implements error.
func (e *UnexpectedAnswer) Error() string {
	if e.Body == "" {
		return fmt.Sprintf("unexpected http status %d", e.Code)
	}
	return fmt.Sprintf("unexpected http status %d: %s", e.Code, e.Body)
}

// Unwrap returns Cause.
func (e *UnexpectedAnswer) Unwrap() error { return e.Cause }
