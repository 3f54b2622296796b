package rafthttp_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp"
)

// TestAnswersBothWays: what one side answers is what the other makes of it.
func TestAnswersBothWays(t *testing.T) {
	const stream, post = http.StatusOK, http.StatusNoContent
	wrapped := func(err error) error { return fmt.Errorf("more about it: %w", err) }
	tests := []struct {
		name     string
		err      error
		code     int
		body     string
		ofStream error // nil: a StatusError
		ofPost   error
	}{
		{"version", rafthttp.ErrIncompatibleVersion, 412, "incompatible version", rafthttp.ErrIncompatibleVersion, rafthttp.ErrIncompatibleVersion},
		{"version, wrapped", wrapped(rafthttp.ErrIncompatibleVersion), 412, "incompatible version", rafthttp.ErrIncompatibleVersion, rafthttp.ErrIncompatibleVersion},
		{"cluster", rafthttp.ErrClusterIDMismatch, 412, "cluster ID mismatch", rafthttp.ErrClusterIDMismatch, rafthttp.ErrClusterIDMismatch},
		{"to", rafthttp.ErrToMismatch, 412, "to field mismatch", rafthttp.ErrToMismatch, rafthttp.ErrToMismatch},
		{"unknown", rafthttp.ErrMemberUnknown, 404, "error sender not found", rafthttp.ErrMemberUnknown, nil},
		{"gone", rafthttp.ErrMemberGone, 410, "removed member", rafthttp.ErrMemberGone, nil},
		{"removed", rafthttp.ProcessError(rafthttp.ErrMemberRemoved), 403, "failed to process raft message: " + rafthttp.ErrMemberRemoved.Error(), nil, rafthttp.ErrMemberRemoved},
		{"not processed", rafthttp.ProcessError(io.EOF), 500, "failed to process raft message: EOF", nil, nil},
		{"not processed, for a reason that has an answer", rafthttp.ProcessError(rafthttp.ErrClusterIDMismatch), 500, "failed to process raft message: cluster ID mismatch", nil, nil},
		{"method", rafthttp.ErrMethod, 405, "Method Not Allowed", nil, nil},
		{"no snapshotter", rafthttp.ErrNoSnapshotter, 501, "this member takes no database snapshots", nil, nil},
		{"busy", rafthttp.ErrBusy, 503, "too many snapshots in flight", nil, nil},
		{"not started", rafthttp.ErrNotStarted, 503, "rafthttp: transport is not started", nil, nil},
		{"stopped", rafthttp.ErrStopped, 503, "rafthttp: transport stopped", nil, nil},
		{"paused", rafthttp.ErrPaused, 500, "rafthttp: peer is paused", nil, nil},
		{"other", errors.New("disk full"), 500, "disk full", nil, nil},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			code, body := rafthttp.AnswerOf(tc.err)
			require.Equal(t, tc.code, code)
			require.Equal(t, tc.body, body)
			for want, meaning := range map[int]error{stream: tc.ofStream, post: tc.ofPost} {
				w := httptest.NewRecorder()
				http.Error(w, body, code)
				err := rafthttp.AnswerError(w.Result(), want)
				if meaning != nil {
					require.ErrorIs(t, err, meaning)
					continue
				}
				var status *rafthttp.StatusError
				require.ErrorAs(t, err, &status)
				require.Equal(t, rafthttp.StatusError{Code: code, Body: body}, *status)
			}
		})
	}
	require.ErrorIs(t, rafthttp.ErrMemberGone, rafthttp.ErrMemberRemoved)
}

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
		{"many lines", 500, "one\ntwo", "unexpected http status 500: one"},
		{"long", 500, strings.Repeat("x", 10_000), "unexpected http status 500: " + strings.Repeat("x", 256)},
		{"no text", 500, "\xff\xfe", "unexpected http status 500: ?"},
	}
	for _, tc := range tests {
		resp := &http.Response{StatusCode: tc.code, Body: io.NopCloser(strings.NewReader(tc.body))}
		require.EqualError(t, rafthttp.AnswerError(resp, 204), tc.err, tc.name)
	}
	for body, want := range map[string]string{
		"error sender not found\n": "member not found",
		"":                         "member not found",
		"404 page not found\n":     "member not found: 404 page not found", // of a server without our handler
		"invalid path":             "member not found: invalid path",
	} {
		err := rafthttp.AnswerError(&http.Response{StatusCode: 404, Body: io.NopCloser(strings.NewReader(body))}, 200)
		require.ErrorIs(t, err, rafthttp.ErrMemberUnknown)
		require.EqualError(t, err, want)
	}
	endless := &http.Response{StatusCode: 412, Body: io.NopCloser(readerFunc(func(p []byte) (int, error) { return len(p), nil }))}
	require.Error(t, rafthttp.AnswerError(endless, 200))
	for _, want := range []int{200, 204} {
		require.NoError(t, rafthttp.AnswerError(&http.Response{StatusCode: want}, want))
	}
}

func TestParseVersion(t *testing.T) {
	good := map[string][2]int{
		"0.0.0": {0, 0}, "3.7.0": {3, 7}, "3.7.12": {3, 7}, "10.20.30": {10, 20}, "2147483647.1.0": {1<<31 - 1, 1},
		"3.6.0-alpha.0": {3, 6}, "3.6.0+git": {3, 6}, "3.6.0-rc.1+git-1": {3, 6}, "3.6.0+a-b": {3, 6}, "3.6.0-": {3, 6},
	}
	for s, want := range good {
		major, minor, err := rafthttp.ParseVersion(s)
		require.NoError(t, err, s)
		require.Equal(t, want, [2]int{major, minor}, s)
	}
	bad := []string{
		"", "3", "3.7", "3.7.0.0", "v3.7.0", "3.x.0", "3..0", ".7.0", "3.7.", "-3.7.0", "3.-7.0", "+3.7.0", "3.7.0 ", " 3.7.0", "3_0.7.0",
		"0x3.7.0", "2147483648.0.0", "99999999999999999999.0.0", "3.7.0-a b", "3.7.0-ä", "3.7.0+a+b", "3.7.0-a\r\nX: y", "3.7.0\x00",
		"3.7." + strings.Repeat("0", 200), "3.7.0-" + strings.Repeat("a", 200),
	}
	for _, s := range bad {
		_, _, err := rafthttp.ParseVersion(s)
		require.ErrorContains(t, err, "not a semantic version", s)
		require.Less(t, len(err.Error()), 700)
	}
}

var semanticVersion = regexp.MustCompile(`^([0-9]+)\.([0-9]+)\.([0-9]+)(-[0-9A-Za-z.-]*)?(\+[0-9A-Za-z.-]*)?$`)

// FuzzParseVersion compares with a regular expression.
func FuzzParseVersion(f *testing.F) {
	for _, s := range []string{"3.7.0", "3.6.0-rc.1+git", "", "3.7", "-1.0.0", "3.7.0\n", "00.01.2", "4294967296.0.0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		major, minor, err := rafthttp.ParseVersion(s)
		match := semanticVersion.FindStringSubmatch(s)
		want := match != nil && len(s) <= 128
		for i := 1; want && i <= 3; i++ {
			_, err := strconv.ParseUint(match[i], 10, 31)
			want = err == nil
		}
		require.Equal(t, want, err == nil, "%q: %v", s, err)
		if want {
			again, minor2, err := rafthttp.ParseVersion(fmt.Sprintf("%d.%d.0", major, minor))
			require.NoError(t, err)
			require.Equal(t, [2]int{major, minor}, [2]int{again, minor2})
		}
	})
}

// FuzzRequestHeaders gives the handlers any headers, of a member that is no peer.
func FuzzRequestHeaders(f *testing.F) {
	tr := &rafthttp.Transport{ID: 1, ClusterID: testCluster, Raft: &recorder{}}
	require.NoError(f, tr.Start())
	f.Cleanup(tr.Stop)
	h := tr.Handler()
	paths := []string{"/raft", "/raft/snapshot", messagePath, msgappPath, "/raft/stream/message/x", "/raft/stream/x/2"}
	f.Add("3.7.0", "3.0.0", "c1", "2", "1", "http://a:1", uint8(0))
	f.Add("", "", "", "", "", "", uint8(2))
	f.Add("3.7.0", "3.0.0", "c1", "2", "1", "http://a:1,,http://[", uint8(2))
	f.Add("3.7.0-\x00", "9.0.0", "C1", "-1", "zz", "unix://", uint8(3))
	f.Fuzz(func(t *testing.T, version, minimum, cluster, from, to, urls string, path uint8) {
		p := paths[int(path)%len(paths)]
		method := http.MethodGet
		if !strings.Contains(p, "stream") {
			method = http.MethodPost
		}
		r := httptest.NewRequest(method, p, strings.NewReader("\xff"))
		r.Header = http.Header{
			"X-Server-Version": {version}, "X-Min-Cluster-Version": {minimum}, "X-Etcd-Cluster-Id": {cluster},
			"X-Server-From": {from}, "X-Raft-To": {to}, "X-Peerurls": {urls},
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		require.Contains(t, []int{400, 404, 412, 501}, w.Code, w.Body)
		require.Equal(t, "c1", w.Header().Get("X-Etcd-Cluster-ID"))
		require.LessOrEqual(t, len(tr.Status().Remotes), 128)
	})
}
