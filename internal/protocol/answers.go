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

// answers is the one table between errors and answers, used in both directions
// (PROTOCOL.md, sections 3 and 4). The first row that fits decides.
var answers = append([]answerRow{
	{ErrIncompatibleVersion, http.StatusPreconditionFailed, "incompatible version", EndpointAll, EndpointMembers},
	{ErrClusterIDMismatch, http.StatusPreconditionFailed, "cluster ID mismatch", EndpointAll, EndpointMembers},
	{ErrToMismatch, http.StatusPreconditionFailed, "to field mismatch", EndpointAll, EndpointMembers},
	{ErrMemberUnknown, http.StatusNotFound, senderNotFound, EndpointAll, EndpointStreams},
	{ErrMemberGone, http.StatusGone, "removed member", EndpointStreams, EndpointStreams},
	{ErrMemberGone, http.StatusForbidden, "", EndpointMessages | EndpointOffset, EndpointMessages},
	// A sender of posts, stock or ours, takes 403 for its own removal and stops its
	// server: somebody who can mix up certificates or addresses must not be able to
	// do that.
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
	body string   // "" stands for the error's own text
	at   Endpoint // where err is answered so
	// means has the endpoints from which an answer like this one means err. From
	// others it means nothing.
	means Endpoint
}

// snapshotAnswers are those about snapshots alone.
func snapshotAnswers() (rows []answerRow) {
	for _, r := range snapshotRefusals {
		rows = append(rows, answerRow{r.err, r.code, "", EndpointAll, EndpointNone})
	}
	return rows
}

// senderNotFound is how members refuse a stream of one that they do not know.
const senderNotFound = "error sender not found"

// AnswerOf returns the status and the body that tell the requester err.
func AnswerOf(err error, at Endpoint) (code int, body string) {
	if bad := (*RequestError)(nil); errors.As(err, &bad) {
		return bad.Code, bad.Text
	}
	if failed := (*ProcessError)(nil); errors.As(err, &failed) {
		// Only what Raft says on purpose: a status means something to the sender.
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

// answerError returns what the status and the body of an answer say.
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

// meaning returns what an answer of an endpoint means that is not its success, or nil
// for one that means nothing there (PROTOCOL.md, section 4). Text is its body without
// space around. That the local member was removed is for members of our cluster to say.
func meaning(at Endpoint, code int, text string, ofOurCluster bool) error {
	for _, a := range answers {
		if a.code != code || at&a.means == 0 || (errors.Is(a.err, ErrMemberRemoved) && !ofOurCluster) {
			continue
		}
		switch {
		case a.code == http.StatusNotFound && text != senderNotFound && text != "":
			return fmt.Errorf("%w: %s", a.err, FirstLine(text)) // perhaps it is no member that answers
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

// FirstLine bounds text that a peer sent, for errors and logs.
func FirstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	if len(s) > 256 {
		s = s[:256]
	}
	return strings.ToValidUTF8(strings.TrimSpace(s), "?")
}

// ProcessError is an error of Process.
type ProcessError struct {
	Err  error
	Drop bool // the connection is not to be used again

	// PassedOn: the message is not of the member that sent it. Followers pass
	// proposals and reads on to the leader as they came; what is to be said to the
	// member that the message is of must not be said to them.
	PassedOn bool
}

// Error is the body of the answer.
func (e *ProcessError) Error() string { return "failed to process raft message: " + e.Err.Error() }

// Unwrap returns the error of Process.
func (e *ProcessError) Unwrap() error { return e.Err }
