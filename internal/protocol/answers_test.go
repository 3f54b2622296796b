package protocol

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/internal/errs"
)

// endpoints are all of them, by name.
var endpoints = map[string]Endpoint{
	"post": EndpointPost, "message": EndpointMessage, "msgapp": EndpointMsgApp,
	"snapshot": EndpointSnapshot, "offset": EndpointOffset, "probing": EndpointProbe,
}

// errorsOfAnswers are the errors of the table, each once.
func errorsOfAnswers() (all []error) {
	for _, a := range answers {
		if !slices.Contains(all, a.err) {
			all = append(all, a.err)
		}
	}
	return all
}

func processError(err error) error { return &ProcessError{Err: err} }

// TestAnswersBothWays: what one side answers at an endpoint is what the other makes
// of it there, for every row of the table and every endpoint.
func TestAnswersBothWays(t *testing.T) {
	all := []string{"post", "message", "msgapp", "snapshot", "offset", "probing"}
	members := []string{"post", "message", "msgapp", "snapshot", "offset"}
	streams, messages := []string{"message", "msgapp"}, []string{"post", "snapshot"}
	removed, processed := ErrMemberRemoved, "failed to process raft message: "
	tests := []struct {
		name  string
		err   error
		at    []string // where it is answered so
		code  int
		body  string
		means []string // where an answer like it means something; nothing elsewhere
		meant error    // what it means there
	}{
		{"version", ErrIncompatibleVersion, all, 412, "incompatible version", members, ErrIncompatibleVersion},
		{"version, wrapped", fmt.Errorf("more about it: %w", ErrIncompatibleVersion), all, 412, "incompatible version", members, ErrIncompatibleVersion},
		{"cluster", ErrClusterIDMismatch, all, 412, "cluster ID mismatch", members, ErrClusterIDMismatch},
		{"to", ErrToMismatch, all, 412, "to field mismatch", members, ErrToMismatch},
		{"unknown", ErrMemberUnknown, all, 404, "error sender not found", streams, ErrMemberUnknown},
		{"gone", ErrMemberGone, streams, 410, "removed member", streams, removed},
		{"gone, posting", ErrMemberGone, []string{"post", "snapshot", "offset"}, 403, ErrMemberGone.Error(), messages, removed},
		{"gone, probing", ErrMemberGone, []string{"probing"}, 500, ErrMemberGone.Error(), nil, nil},
		{"not of who it says", ErrIdentity, streams, 403, ErrIdentity.Error(), messages, removed},
		{"not of who it says, no stream", ErrIdentity, []string{"post", "snapshot", "offset", "probing"}, 401, ErrIdentity.Error(), nil, nil},
		{"removed, says raft", processError(ErrMemberRemoved), messages, 403, processed + ErrMemberRemoved.Error(), messages, removed},
		{"not processed", processError(io.EOF), messages, 500, processed + "EOF", nil, nil},
		{"not processed, for a reason that has an answer", processError(ErrClusterIDMismatch), messages, 500, processed + "cluster ID mismatch", nil, nil},
		{"a removal that is nobody's word", ErrMemberRemoved, all, 500, ErrMemberRemoved.Error(), nil, nil},
		{"method", ErrMethodNotAllowed, all, 405, "Method Not Allowed", nil, nil},
		{"no stream", ErrNoStream, all, 501, ErrNoStream.Error(), nil, nil},
		{"no snapshotter", ErrNoSnapshotter, all, 501, "this member takes no database snapshots", nil, nil},
		{"queue is full", errs.ErrQueueFull, all, 503, "rafthttp: queue is full", nil, nil},
		{"busy", ErrTooManySnapshots, all, 503, "too many snapshots in flight", nil, nil},
		{"busy with posts", ErrBusyPosts, all, 503, "too many posts in flight", nil, nil},
		{"offset", ErrSnapshotOffset, all, 409, ErrSnapshotOffset.Error(), nil, nil},
		{"still writing", ErrStillWriting, all, 409, ErrStillWriting.Error(), nil, nil},
		{"not started", ErrNotStarted, all, 503, "rafthttp: transport is not started", nil, nil},
		{"stopped", errs.ErrStopped, all, 503, "rafthttp: transport stopped", nil, nil},
		{"paused", errors.New("rafthttp: peer is paused"), all, 500, "rafthttp: peer is paused", nil, nil},
		{"other", errors.New("disk full"), all, 500, "disk full", nil, nil},
	}
	rows := errorsOfAnswers()
	for _, tc := range tests {
		rows = slices.DeleteFunc(rows, func(row error) bool { return errors.Is(tc.err, row) })
		t.Run(tc.name, func(t *testing.T) {
			for _, at := range tc.at {
				code, body := AnswerOf(tc.err, endpoints[at])
				require.Equal(t, tc.code, code, at)
				require.Equal(t, tc.body, body, at)
			}
			for at, endpoint := range endpoints {
				for _, ours := range []bool{false, true} {
					err := meaning(endpoint, tc.code, tc.body, ours)
					if slices.Contains(tc.means, at) && (ours || !errors.Is(tc.meant, removed)) {
						require.ErrorIs(t, err, tc.meant, at)
					} else {
						require.NoError(t, err, at)
					}
				}
			}
		})
	}
	require.Empty(t, rows, "rows that no case has")
	require.ErrorIs(t, ErrMemberGone, ErrMemberRemoved)
}

// TestAnswersOfOthers: an answer that the protocol does not know, or that is no member's, is an error with its first line.
func TestAnswersOfOthers(t *testing.T) {
	tests := []struct {
		name string
		code int
		body string
		err  string
	}{
		{"412 of another kind", 412, "something else", "unexpected http status 412: something else"},
		{"412 with spaces around", 412, " \n cluster ID mismatch\r\n", "cluster ID mismatch"},
		{"wrong success", 202, "", "unexpected http status 202"},
		{"success of a stream", 200, "", "unexpected http status 200"},
		{"many lines", 500, "one\ntwo", "unexpected http status 500: one"},
		{"long", 500, strings.Repeat("x", 10_000), "unexpected http status 500: " + strings.Repeat("x", 256)},
		{"no text", 500, "\xff\xfe", "unexpected http status 500: ?"},
	}
	for _, tc := range tests {
		resp := &http.Response{StatusCode: tc.code, Body: io.NopCloser(strings.NewReader(tc.body))}
		require.EqualError(t, answerError(resp, EndpointPost, true), tc.err, tc.name)
	}
	for body, want := range map[string]string{
		"error sender not found\n": "member not found",
		"":                         "member not found",
		"404 page not found\n":     "member not found: 404 page not found", // of a server without our handler
		"invalid path":             "member not found: invalid path",
	} {
		err := answerError(&http.Response{StatusCode: 404, Body: io.NopCloser(strings.NewReader(body))}, EndpointMessage, false)
		require.ErrorIs(t, err, ErrMemberUnknown)
		require.EqualError(t, err, want)
	}
	long := &http.Response{StatusCode: 412, Body: io.NopCloser(endless{})}
	require.Error(t, answerError(long, EndpointMessage, true))
	for name, want := range map[string]int{"post": 204, "message": 200, "msgapp": 200, "snapshot": 204, "offset": 204, "probing": 200} {
		require.NoError(t, answerError(&http.Response{StatusCode: want}, endpoints[name], false))
	}
}

// endless is a reader without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }
