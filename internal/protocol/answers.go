package protocol

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/seed-4d73690b/rafthttp/internal/errs"
)

// answers is the only table between errors and answers, used in both directions
// (PROTOCOL.md, sections 3 and 4). The first matching row decides.
var answers = append([]answerRow{
	{ErrIncompatibleVersion, http.StatusPreconditionFailed, "incompatible version", EndpointAll, EndpointMembers},
	{ErrClusterIDMismatch, http.StatusPreconditionFailed, "cluster ID mismatch", EndpointAll, EndpointMembers},
	{ErrToMismatch, http.StatusPreconditionFailed, "to field mismatch", EndpointAll, EndpointMembers},
	{ErrMemberUnknown, http.StatusNotFound, senderNotFound, EndpointAll, EndpointStreams},
	{ErrMemberGone, http.StatusGone, "removed member", EndpointStreams, EndpointStreams},
	{ErrMemberGone, http.StatusForbidden, "", EndpointMessages | EndpointOffset, EndpointMessages},
	// A sender of POSTs, stock or ours, understands 403 as its own removal and stops its
	// server: mixed-up certificates or addresses must not be able to
	// cause that.
	{ErrIdentity, http.StatusForbidden, "", EndpointStreams, EndpointNone},
	{ErrIdentity, http.StatusUnauthorized, "", EndpointAll, EndpointNone},
	{ErrMethodNotAllowed, http.StatusMethodNotAllowed, "", EndpointAll, EndpointNone},
	{ErrNoStream, http.StatusNotImplemented, "", EndpointAll, EndpointNone},
	{ErrBusyPosts, http.StatusServiceUnavailable, "", EndpointAll, EndpointNone},
	{errs.ErrQueueFull, http.StatusServiceUnavailable, "", EndpointAll, EndpointNone},
	{ErrNotStarted, http.StatusServiceUnavailable, "", EndpointAll, EndpointNone},
	{errs.ErrStopped, http.StatusServiceUnavailable, "", EndpointAll, EndpointNone},
}, snapshotAnswers()...)

// answerRow is a row of answers.
type answerRow struct {
	err  error
	code int
	body string   // "": the error's own text
	at   Endpoint // endpoints that answer err so
	// means has the endpoints from which such an answer means err. From
	// others it has no meaning.
	means Endpoint
}

// snapshotAnswers are the rows of snapshots.
func snapshotAnswers() (rows []answerRow) {
	for _, r := range snapshotRefusals {
		rows = append(rows, answerRow{r.err, r.code, "", EndpointAll, EndpointNone})
	}
	return rows
}

// senderNotFound is the body of a refusal of a stream to an unknown member.
const senderNotFound = "error sender not found"

// AnswerOf returns the status and the body that report err to the requester.
func AnswerOf(err error, at Endpoint) (code int, body string) {
	if bad := (*RequestError)(nil); errors.As(err, &bad) {
		return bad.Code, bad.Text
	}
	if failed := (*ProcessError)(nil); errors.As(err, &failed) {
		// Only an explicit error of Raft: a status means something to the sender.
		if errors.Is(failed.Err, ErrMemberRemoved) && !failed.PassedOn {
			return http.StatusForbidden, err.Error()
		}
		return http.StatusInternalServerError, err.Error()
	}
	for _, a := range answers {
		if errors.Is(err, a.err) && at&a.at != 0 {
			if a.body == "" {
				return a.code, err.Error()
			}
			return a.code, a.body
		}
	}
	return http.StatusInternalServerError, err.Error()
}

// answerError returns the meaning of the status and the body of an answer.
func answerError(resp *http.Response, at Endpoint, ofOurCluster bool) error {
	if resp.StatusCode == at.Success() {
		return nil
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, MaxAnswerBytes))
	text := string(bytes.TrimSpace(body))
	if err := meaning(at, resp.StatusCode, text, ofOurCluster); err != nil {
		return err
	}
	unexpected := &UnexpectedAnswer{Code: resp.StatusCode, Body: FirstLine(text)}
	if at&(EndpointSnapshot|EndpointOffset) != 0 {
		unexpected.Cause = snapshotMeaning(unexpected.Code, unexpected.Body)
	}
	return unexpected
}

// meaning returns the meaning of an answer of an endpoint other than its success, or nil
// if it has none there (PROTOCOL.md, section 4). text is its body without
// surrounding space. Only members of our cluster can say that the local member was removed.
func meaning(at Endpoint, code int, text string, ofOurCluster bool) error {
	for _, a := range answers {
		if a.code != code || at&a.means == 0 || (errors.Is(a.err, ErrMemberRemoved) && !ofOurCluster) {
			continue
		}
		switch {
		case a.code == http.StatusNotFound && text != senderNotFound && text != "":
			return fmt.Errorf("%w: %s", a.err, FirstLine(text)) // perhaps not from a member
		case a.code != http.StatusPreconditionFailed || a.body == text:
			return a.err
		}
	}
	return nil
}

// IsVerdict reports whether err is an answer that will not change soon.
func IsVerdict(err error) bool {
	for _, a := range answers {
		if a.means != EndpointNone && errors.Is(err, a.err) {
			return true
		}
	}
	return false
}

// maxFirstLine is the most bytes of text from a peer.
const maxFirstLine = 256

// FirstLine shortens text from a peer, for errors and logs.
func FirstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	s = s[:min(len(s), maxFirstLine)]
	return errs.Plain(strings.TrimSpace(s), 3*maxFirstLine) // a byte that is no text takes three
}

// ProcessError is an error of Process.
type ProcessError struct {
	Err  error
	Drop bool // the connection must not be reused

	// PassedOn means that the sender forwarded another member's message. Followers forward
	// proposals and reads to the leader unchanged; an answer for the member in From
	// must not be given to them.
	PassedOn bool
}

// Error is the body of the answer.
func (e *ProcessError) Error() string { return "failed to process raft message: " + e.Err.Error() }

// Unwrap returns the error of Process.
func (e *ProcessError) Unwrap() error { return e.Err }
