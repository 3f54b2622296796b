package rafthttp_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// endpointOf names the endpoint that a request is for.
func endpointOf(path string) string {
	for _, e := range []struct{ prefix, name string }{
		{"/raft/stream/message/", "message"}, {"/raft/stream/msgapp/", "msgapp"}, {"/raft/snapshot/offset", "offset"},
		{"/raft/snapshot", "snapshot"}, {"/raft/probing", "probing"}, {"/raft", "post"},
	} {
		if strings.HasPrefix(path, e.prefix) {
			return e.name
		}
	}
	return ""
}

// serveStatus answers one endpoint with a status and a header, and the others as
// a peer with the extension does that does not know who asks.
func serveStatus(t *testing.T, n *memnet.Network, id types.ID, endpoint string, status int, header http.Header) (asked <-chan struct{}) {
	t.Helper()
	ln, err := n.Host(hostOf(id)).Listen("2380")
	require.NoError(t, err)
	seen := make(chan struct{}, 1)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		switch is := endpointOf(r.URL.Path); {
		case is == endpoint:
			select {
			case seen <- struct{}{}:
			default:
			}
			for name, values := range header {
				w.Header()[name] = values
			}
			w.WriteHeader(status)
		case is == "probing":
			w.Header().Set("X-Raft-Extensions", "snapshot-1")
		case is == "offset":
			w.Header().Set("X-Raft-Snapshot-Offset", "0")
			w.Header().Set("X-Raft-Snapshot-Checksum", "0")
			w.WriteHeader(http.StatusNoContent)
		case r.Method == http.MethodPost:
			w.WriteHeader(http.StatusNoContent)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	})}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(ln)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-served
	})
	return seen
}

// TestRemovalIsBelieved: a member takes itself for removed by the answers that the
// protocol gives this meaning, if they state our cluster. Whatever else a proxy, a
// wrong server or a member answers ends no server.
func TestRemovalIsBelieved(t *testing.T) {
	proof := http.Header{"X-Etcd-Cluster-Id": {testCluster.String()}, "X-Server-Version": {"3.7.0"}}
	without := func(name, value string) http.Header {
		h := proof.Clone()
		if h.Del(name); value != "" {
			h.Set(name, value)
		}
		return h
	}
	headers := map[string]http.Header{
		"of our cluster":     proof,
		"of no cluster":      without("X-Etcd-Cluster-Id", ""),
		"of another cluster": without("X-Etcd-Cluster-Id", "bad"),
		"without a version":  without("X-Server-Version", ""),
		"of any web server":  {},
	}
	believed := map[string]map[string]int{ // by header and endpoint: the status that says it
		"of our cluster":    {"message": 410, "msgapp": 410, "post": 403, "snapshot": 403},
		"without a version": {"post": 403, "snapshot": 403},
	}
	for _, endpoint := range []string{"message", "msgapp", "post", "snapshot", "offset", "probing"} {
		for _, status := range []int{401, 403, 404, 410} {
			for name, header := range headers {
				t.Run(strings.Join([]string{endpoint, http.StatusText(status), name}, "/"), func(t *testing.T) {
					simulate(t, func(t *testing.T, n *memnet.Network) {
						removed := make(chan error, 100)
						a := startSimulated(t, n, 1, func(tr *rafthttp.Transport) { tr.ErrorC = removed })
						asked := serveStatus(t, n, 2, endpoint, status, header)
						a.AddPeer(2, []string{urlOf(2)})
						a.Send([]*raftpb.Message{heartbeat(2, 1, 1)})
						m := newSnapshot(&database{Reader: http.NoBody}, 0)
						a.SendSnapshot(m)
						<-m.CloseNotify()
						time.Sleep(time.Minute)
						require.NotEmpty(t, asked)
						if want := believed[name][endpoint]; want == status {
							require.ErrorIs(t, <-removed, rafthttp.ErrMemberRemoved)
						} else {
							require.Empty(t, removed)
						}
					})
				})
			}
		}
	}
}

// TestAnswersBothWays: what one side answers at an endpoint is what the other makes
// of it there, for every row of the table and every endpoint.
func TestAnswersBothWays(t *testing.T) {
	all := []string{"post", "message", "msgapp", "snapshot", "offset", "probing"}
	members := []string{"post", "message", "msgapp", "snapshot", "offset"}
	streams, messages := []string{"message", "msgapp"}, []string{"post", "snapshot"}
	removed, processed := rafthttp.ErrMemberRemoved, "failed to process raft message: "
	tests := []struct {
		name  string
		err   error
		at    []string // where it is answered so
		code  int
		body  string
		means []string // where an answer like it means something; a StatusError elsewhere
		meant error    // what it means there
	}{
		{"version", rafthttp.ErrIncompatibleVersion, all, 412, "incompatible version", members, rafthttp.ErrIncompatibleVersion},
		{"version, wrapped", fmt.Errorf("more about it: %w", rafthttp.ErrIncompatibleVersion), all, 412, "incompatible version", members, rafthttp.ErrIncompatibleVersion},
		{"cluster", rafthttp.ErrClusterIDMismatch, all, 412, "cluster ID mismatch", members, rafthttp.ErrClusterIDMismatch},
		{"to", rafthttp.ErrToMismatch, all, 412, "to field mismatch", members, rafthttp.ErrToMismatch},
		{"unknown", rafthttp.ErrMemberUnknown, all, 404, "error sender not found", streams, rafthttp.ErrMemberUnknown},
		{"gone", rafthttp.ErrMemberGone, streams, 410, "removed member", streams, removed},
		{"gone, posting", rafthttp.ErrMemberGone, []string{"post", "snapshot", "offset"}, 403, rafthttp.ErrMemberGone.Error(), messages, removed},
		{"gone, probing", rafthttp.ErrMemberGone, []string{"probing"}, 500, rafthttp.ErrMemberGone.Error(), nil, nil},
		{"not of who it says", rafthttp.ErrIdentity, streams, 403, rafthttp.ErrIdentity.Error(), messages, removed},
		{"not of who it says, no stream", rafthttp.ErrIdentity, []string{"post", "snapshot", "offset", "probing"}, 401, rafthttp.ErrIdentity.Error(), nil, nil},
		{"removed, says raft", rafthttp.ProcessError(rafthttp.ErrMemberRemoved), messages, 403, processed + rafthttp.ErrMemberRemoved.Error(), messages, removed},
		{"not processed", rafthttp.ProcessError(io.EOF), messages, 500, processed + "EOF", nil, nil},
		{"not processed, for a reason that has an answer", rafthttp.ProcessError(rafthttp.ErrClusterIDMismatch), messages, 500, processed + "cluster ID mismatch", nil, nil},
		{"a removal that is nobody's word", rafthttp.ErrMemberRemoved, all, 500, rafthttp.ErrMemberRemoved.Error(), nil, nil},
		{"method", rafthttp.ErrMethod, all, 405, "Method Not Allowed", nil, nil},
		{"no stream", rafthttp.ErrNoStream, all, 501, rafthttp.ErrNoStream.Error(), nil, nil},
		{"no snapshotter", rafthttp.ErrNoSnapshotter, all, 501, "this member takes no database snapshots", nil, nil},
		{"queue is full", rafthttp.ErrQueueFull, all, 503, "rafthttp: queue is full", nil, nil},
		{"busy", rafthttp.ErrBusy, all, 503, "too many snapshots in flight", nil, nil},
		{"busy with posts", rafthttp.ErrBusyPosts, all, 503, "too many posts in flight", nil, nil},
		{"offset", rafthttp.ErrSnapshotOffset, all, 409, rafthttp.ErrSnapshotOffset.Error(), nil, nil},
		{"still writing", rafthttp.ErrStillWriting, all, 409, rafthttp.ErrStillWriting.Error(), nil, nil},
		{"not started", rafthttp.ErrNotStarted, all, 503, "rafthttp: transport is not started", nil, nil},
		{"stopped", rafthttp.ErrStopped, all, 503, "rafthttp: transport stopped", nil, nil},
		{"paused", rafthttp.ErrPaused, all, 500, "rafthttp: peer is paused", nil, nil},
		{"other", errors.New("disk full"), all, 500, "disk full", nil, nil},
	}
	rows := rafthttp.RowsOfAnswers()
	for _, tc := range tests {
		rows = slices.DeleteFunc(rows, func(row error) bool { return errors.Is(tc.err, row) })
		t.Run(tc.name, func(t *testing.T) {
			for _, at := range tc.at {
				code, body := rafthttp.AnswerOf(tc.err, rafthttp.Endpoints[at])
				require.Equal(t, tc.code, code, at)
				require.Equal(t, tc.body, body, at)
			}
			for at, endpoint := range rafthttp.Endpoints {
				for _, ours := range []bool{false, true} {
					w := httptest.NewRecorder()
					http.Error(w, tc.body, tc.code)
					err := rafthttp.AnswerError(w.Result(), endpoint, ours)
					if slices.Contains(tc.means, at) && (ours || !errors.Is(tc.meant, removed)) {
						require.ErrorIs(t, err, tc.meant, at)
						continue
					}
					status, ok := errors.AsType[*rafthttp.StatusError](err)
					require.True(t, ok, "%s: %v", at, err)
					require.Equal(t, rafthttp.StatusError{Code: tc.code, Body: tc.body}, *status, at)
				}
			}
		})
	}
	require.Empty(t, rows, "rows that no case has")
	require.ErrorIs(t, rafthttp.ErrMemberGone, rafthttp.ErrMemberRemoved)
}

func TestAnswersOfOthers(t *testing.T) {
	post, stream := rafthttp.Endpoints["post"], rafthttp.Endpoints["message"]
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
		require.EqualError(t, rafthttp.AnswerError(resp, post, true), tc.err, tc.name)
	}
	for body, want := range map[string]string{
		"error sender not found\n": "member not found",
		"":                         "member not found",
		"404 page not found\n":     "member not found: 404 page not found", // of a server without our handler
		"invalid path":             "member not found: invalid path",
	} {
		err := rafthttp.AnswerError(&http.Response{StatusCode: 404, Body: io.NopCloser(strings.NewReader(body))}, stream, false)
		require.ErrorIs(t, err, rafthttp.ErrMemberUnknown)
		require.EqualError(t, err, want)
	}
	endless := &http.Response{StatusCode: 412, Body: io.NopCloser(readerFunc(func(p []byte) (int, error) { return len(p), nil }))}
	require.Error(t, rafthttp.AnswerError(endless, stream, true))
	for name, want := range map[string]int{"post": 204, "message": 200, "msgapp": 200, "snapshot": 204, "offset": 204, "probing": 200} {
		require.NoError(t, rafthttp.AnswerError(&http.Response{StatusCode: want}, rafthttp.Endpoints[name], false))
	}
}
