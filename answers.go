package rafthttp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp/internal/protocol"
)

// answers is the one table between errors and answers, used in both directions
// (PROTOCOL.md, sections 3 and 4).
// The first row that fits decides.
var answers = append([]answerRow{
	{ErrIncompatibleVersion, http.StatusPreconditionFailed, "incompatible version", protocol.EndpointAll, protocol.EndpointMembers},
	{ErrClusterIDMismatch, http.StatusPreconditionFailed, "cluster ID mismatch", protocol.EndpointAll, protocol.EndpointMembers},
	{ErrToMismatch, http.StatusPreconditionFailed, "to field mismatch", protocol.EndpointAll, protocol.EndpointMembers},
	{ErrMemberUnknown, http.StatusNotFound, senderNotFound, protocol.EndpointAll, protocol.EndpointStreams},
	{protocol.ErrMemberGone, http.StatusGone, "removed member", protocol.EndpointStreams, protocol.EndpointStreams},
	{protocol.ErrMemberGone, http.StatusForbidden, "", protocol.EndpointMessages | protocol.EndpointOffset, protocol.EndpointMessages},
	// A sender of posts, stock or ours, takes 403 for its own removal and stops its
	// server: somebody who can mix up certificates or addresses must not be able to
	// do that.
	{ErrIdentity, http.StatusForbidden, "", protocol.EndpointStreams, protocol.EndpointNone},
	{ErrIdentity, http.StatusUnauthorized, "", protocol.EndpointAll, protocol.EndpointNone},
	{protocol.ErrMethodNotAllowed, http.StatusMethodNotAllowed, "", protocol.EndpointAll, protocol.EndpointNone},
	{protocol.ErrNoStream, http.StatusNotImplemented, "", protocol.EndpointAll, protocol.EndpointNone},
	{protocol.ErrBusyPosts, http.StatusServiceUnavailable, "", protocol.EndpointAll, protocol.EndpointNone},
	{ErrQueueFull, http.StatusServiceUnavailable, "", protocol.EndpointAll, protocol.EndpointNone},
	{protocol.ErrNotStarted, http.StatusServiceUnavailable, "", protocol.EndpointAll, protocol.EndpointNone},
	{ErrStopped, http.StatusServiceUnavailable, "", protocol.EndpointAll, protocol.EndpointNone},
}, snapshotAnswers()...)

// answerRow is a row of answers.
type answerRow struct {
	err  error
	code int
	body string            // "" stands for the error's own text
	at   protocol.Endpoint // where err is answered so
	// means has the endpoints from which an answer like this one means err. From
	// others it is a StatusError.
	means protocol.Endpoint
}

// snapshotAnswers are those about snapshots alone.
func snapshotAnswers() (rows []answerRow) {
	for _, r := range protocol.SnapshotRefusals {
		rows = append(rows, answerRow{r.Err, r.Code, "", protocol.EndpointAll, protocol.EndpointNone})
	}
	return rows
}

// senderNotFound is how members refuse a stream of one that they do not know.
const senderNotFound = "error sender not found"

// answerOf returns the status and the body that tell the requester err.
func answerOf(err error, at protocol.Endpoint) (code int, body string) {
	if bad := (*protocol.RequestError)(nil); errors.As(err, &bad) {
		return bad.Code, bad.Text
	}
	if failed := (*processError)(nil); errors.As(err, &failed) {
		// Only what Raft says on purpose: a status means something to the sender.
		if errors.Is(failed.err, ErrMemberRemoved) && !failed.passedOn {
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

// conclude returns what an answer of the endpoint means, nil for success, and
// tells the application if it is that the local member was removed from the
// cluster. It reads the body to a bound and leaves it to the caller to close it.
func (s *settings) conclude(resp *http.Response, at protocol.Endpoint) error {
	err := s.meaningOf(resp, at)
	if errors.Is(err, ErrMemberRemoved) && s.errorC != nil {
		select {
		case s.errorC <- ErrMemberRemoved:
		default:
		}
	}
	return err
}

// meaningOf is conclude without consequences. No stream is read from a server that
// states no version, or one too old, and none is given up on its word.
func (s *settings) meaningOf(resp *http.Response, at protocol.Endpoint) error {
	err := answerError(resp, at, s.ofOurCluster(resp.Header))
	if errors.Is(err, ErrClusterIDMismatch) {
		err = fmt.Errorf("%w: ours is %s, the peer's is %s", err, s.clusterID, statedID(resp.Header, headerClusterID))
	}
	if at&protocol.EndpointStreams == 0 || (err != nil && !errors.Is(err, ErrMemberRemoved)) {
		return err
	}
	v, verr := headerVersionOf(resp.Header, headerVersion)
	if verr != nil {
		return verr
	}
	if v.Less(oldestStreamServer) {
		return fmt.Errorf("server version %d.%d: %w", v.Major, v.Minor, ErrIncompatibleVersion)
	}
	return err
}

// ofOurCluster reports whether an answer is one of our cluster: its members state
// its id with each, other web servers do not.
func (s *settings) ofOurCluster(h http.Header) bool {
	id, err := types.IDFromString(h.Get(headerClusterID))
	return err == nil && id == s.clusterID
}

// answerError returns what the status and the body of an answer say. That the local
// member was removed is for members of our cluster to say.
func answerError(resp *http.Response, at protocol.Endpoint, ofOurCluster bool) error {
	if resp.StatusCode == at.Success() {
		return nil
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	text := string(bytes.TrimSpace(body))
	for _, a := range answers {
		if a.code != resp.StatusCode || at&a.means == 0 || (errors.Is(a.err, ErrMemberRemoved) && !ofOurCluster) {
			continue
		}
		switch {
		case a.code == http.StatusNotFound && text != senderNotFound && text != "":
			return fmt.Errorf("%w: %s", a.err, firstLine(text)) // perhaps it is no member that answers
		case a.code != http.StatusPreconditionFailed || a.body == text:
			return a.err
		}
	}
	return &StatusError{Code: resp.StatusCode, Body: firstLine(text)}
}

// isVerdict reports whether err is an answer that will not change soon.
func isVerdict(err error) bool {
	for _, a := range answers {
		if a.means != protocol.EndpointNone && errors.Is(err, a.err) {
			return true
		}
	}
	return false
}

// firstLine bounds text that a peer sent, for errors and logs.
func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	if len(s) > 256 {
		s = s[:256]
	}
	return strings.ToValidUTF8(strings.TrimSpace(s), "?")
}
