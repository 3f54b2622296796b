package security_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
)

const (
	messagePath = "/raft/stream/message/2"
	msgappPath  = "/raft/stream/msgapp/2"
)

// TestHandlerMethods: the method comes first, before any other header is set.
func TestHandlerMethods(t *testing.T) {
	a := testmember.Start(t, 1, nil)
	for path, allow := range map[string]string{"/raft": "POST", "/raft/snapshot": "POST", messagePath: "GET", msgappPath: "GET"} {
		for _, method := range []string{"GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS"} {
			if method == allow {
				continue
			}
			got := testmember.Exchange(t, a.URL, method, path, http.Header{}, nil)
			require.Equal(t, http.StatusMethodNotAllowed, got.StatusCode, "%s %s", method, path)
			require.Equal(t, allow, got.Header.Get("Allow"))
			require.NotContains(t, got.Header, "X-Etcd-Cluster-Id")
			if method != "HEAD" {
				require.Equal(t, "Method Not Allowed\n", got.Body)
			}
		}
	}
}

func TestHandlerProbing(t *testing.T) {
	a := testmember.Start(t, 1, nil)
	for _, method := range []string{"GET", "POST", "PUT", "DELETE"} {
		got := testmember.Exchange(t, a.URL, method, "/raft/probing", nil, nil)
		require.Equal(t, http.StatusOK, got.StatusCode)
		require.NotContains(t, got.Header, "X-Etcd-Cluster-Id")
		var health struct {
			OK  bool
			Now time.Time
		}
		dec := json.NewDecoder(strings.NewReader(got.Body))
		dec.DisallowUnknownFields()
		require.NoError(t, dec.Decode(&health))
		require.True(t, health.OK)
		require.WithinDuration(t, time.Now(), health.Now, 10*time.Second)

		// Paths below an endpoint are not the endpoint, as upstream.
		for _, path := range []string{"/raft/probing/", "/raft/probing/x", "/raft/snapshot/x", "/raft/x", "/"} {
			got := testmember.Exchange(t, a.URL, method, path, nil, nil)
			require.Equal(t, http.StatusNotFound, got.StatusCode, "%s %s", method, path)
		}
	}
}

// checksOfAll are the checks that all requests pass (PROTOCOL.md,
// sections 3.2 and 3.3).
var checksOfAll = []struct {
	name   string
	change map[string]string
	code   int // 0: passes
	body   string
}{
	{name: "newest", change: map[string]string{"X-Server-Version": "9.9.9"}},
	{name: "patch and pre-release do not count", change: map[string]string{"X-Server-Version": "3.0.0-rc.1+x", "X-Min-Cluster-Version": "3.7.9"}},
	{"requester too old", map[string]string{"X-Server-Version": "2.9.9"}, 412, "incompatible version\n"},
	{"requester states no version", map[string]string{"X-Server-Version": ""}, 412, "incompatible version\n"},
	{"we are too old", map[string]string{"X-Min-Cluster-Version": "3.8.0"}, 412, "incompatible version\n"},
	{name: "no minimum", change: map[string]string{"X-Min-Cluster-Version": ""}},
	{"malformed version", map[string]string{"X-Server-Version": "3.x"}, 400, "header X-Server-Version: not a semantic version: \"3.x\"\n"},
	{"malformed minimum", map[string]string{"X-Min-Cluster-Version": "3.0"}, 400, "header X-Min-Cluster-Version: not a semantic version: \"3.0\"\n"},
	{"version comes before cluster", map[string]string{"X-Server-Version": "1.0.0", "X-Etcd-Cluster-Id": "bad"}, 412, "incompatible version\n"},
	{"other cluster", map[string]string{"X-Etcd-Cluster-Id": "bad"}, 412, "cluster ID mismatch\n"},
	{"no cluster", map[string]string{"X-Etcd-Cluster-Id": ""}, 412, "cluster ID mismatch\n"},
	{"malformed cluster", map[string]string{"X-Etcd-Cluster-Id": "xyz"}, 400, "header X-Etcd-Cluster-Id: not a hexadecimal id: \"xyz\"\n"},
	{"malformed from", map[string]string{"X-Server-From": "-2"}, 400, "header X-Server-From: not a hexadecimal id: \"-2\"\n"},
	{"from nobody", map[string]string{"X-Server-From": "0"}, 400, "header X-Server-From: no member has the id 0\n"},
	{"from over 64 bits", map[string]string{"X-Server-From": "10000000000000000"}, 400, "header X-Server-From: not a hexadecimal id: \"10000000000000000\"\n"},
}

func TestHandlerChecksAll(t *testing.T) {
	a := testmember.Start(t, 1, testmember.Receives(testmember.SavesAll))
	snapshot := func() io.Reader { return testmember.SnapshotBody(t, testmember.MsgSnap(1, 2, 7), "db") }
	endpoints := []struct {
		method, path string
		body         func() io.Reader
		passes       int
	}{
		{"POST", "/raft", func() io.Reader { return bytes.NewReader(testmember.Marshal(t, testmember.Heartbeat(1, 2, 1))) }, 204},
		{"POST", "/raft/snapshot", snapshot, 204},
		{"GET", messagePath, func() io.Reader { return nil }, 404}, // the sender is not known
		{"GET", msgappPath, func() io.Reader { return nil }, 404},
	}
	for _, e := range endpoints {
		for _, tc := range checksOfAll {
			got := testmember.Exchange(t, a.URL, e.method, e.path, testmember.PeerHeader(tc.change), e.body())
			want := tc.code
			if want == 0 {
				want = e.passes
			} else {
				require.Equal(t, tc.body, got.Body, "%s: %s", e.path, tc.name)
			}
			require.Equal(t, want, got.StatusCode, "%s: %s: %s", e.path, tc.name, got.Body)
			require.Equal(t, testmember.ClusterID.String(), got.Header.Get("X-Etcd-Cluster-ID"))
		}
	}
	require.Empty(t, a.Status().Remotes)
}

func TestHandlerLearnsRemotes(t *testing.T) {
	a := testmember.Start(t, 1, testmember.Receives(testmember.SavesAll))
	a.Recorder.Removed = func(id uint64) bool { return id == 7 }
	a.AddPeer(0xb, []string{"http://127.0.0.1:1"})
	tests := []struct {
		name       string
		from, urls string
		code       int // of a good post
		learned    bool
	}{
		{"malformed", "3", "http://10.0.0.1:80,:bad", 400, false},
		{"no port", "3", "http://10.0.0.1", 400, false},
		{"with a path", "3", "http://10.0.0.1:80/x", 400, false},
		{"no scheme", "3", "10.0.0.1:80", 400, false},
		{"empty element", "3", "http://10.0.0.1:80,", 400, false},
		{"other scheme", "3", "ftp://10.0.0.1:80", 400, false},
		{"not stated", "3", "", 204, false},
		{"nobody", "", "http://10.0.0.1:80", 204, false},
		{"zero", "0", "http://10.0.0.1:80", 400, false},
		{"ourselves", "1", "http://10.0.0.1:80", 204, false},
		{"a peer", "b", "http://10.0.0.1:80", 204, false},
		{"removed", "7", "http://10.0.0.1:80", 500, false},
		{"two", "4", "http://10.0.0.1:80,https://10.0.0.1:81", 204, true},
		{"socket", "5", "unix://a.sock:0", 204, true},
	}
	want := []types.ID{}
	for _, tc := range tests {
		h := testmember.PeerHeader(map[string]string{"X-Server-From": tc.from, "X-PeerURLs": tc.urls})
		bodies := map[string]io.Reader{
			"/raft":          bytes.NewReader(testmember.Marshal(t, testmember.Heartbeat(1, 3, 1))),
			"/raft/snapshot": testmember.SnapshotBody(t, testmember.MsgSnap(1, 3, 7), "db"),
		}
		for path, body := range bodies {
			require.Equal(t, tc.code, testmember.Exchange(t, a.URL, "POST", path, h, body).StatusCode, "%s %s", path, tc.name)
		}
		if tc.learned {
			id, err := types.IDFromString(tc.from)
			require.NoError(t, err)
			want = append(want, id)
		}
		require.Equal(t, want, a.Status().Remotes, tc.name)
	}
	h := testmember.PeerHeader(map[string]string{"X-Server-From": "6", "X-PeerURLs": "bad"})
	require.Equal(t, 400, testmember.Exchange(t, a.URL, "GET", "/raft/stream/message/6", h, nil).StatusCode)
	h.Set("X-PeerURLs", "http://10.0.0.1:80")
	require.Equal(t, 404, testmember.Exchange(t, a.URL, "GET", "/raft/stream/message/6", h, nil).StatusCode)
	require.Equal(t, append(want, 6), a.Status().Remotes)
}

func TestHandlerStreamRefusals(t *testing.T) {
	a := testmember.Start(t, 1, nil)
	a.Recorder.Removed = func(id uint64) bool { return id == 3 }
	a.AddPeer(2, []string{"http://127.0.0.1:1"})
	tests := []struct {
		name, path string
		change     map[string]string
		code       int
		body       string
	}{
		{"no such stream", "/raft/stream/msgappv1/2", nil, 404, "invalid path\n"},
		{"path too long", "/raft/stream/message/2/2", nil, 404, "invalid path\n"},
		{"path too short", "/raft/stream/2", nil, 404, "invalid path\n"},
		{"no from", "/raft/stream/message/", nil, 404, "invalid from\n"},
		{"bad from", "/raft/stream/message/xyz", nil, 404, "invalid from\n"},
		{"from over 64 bits", "/raft/stream/message/10000000000000000", nil, 404, "invalid from\n"},
		{"from zero", "/raft/stream/message/0", map[string]string{"X-Server-From": ""}, 404, "error sender not found\n"},
		{"removed", "/raft/stream/message/3", map[string]string{"X-Server-From": "3"}, 410, "removed member\n"},
		{"removed, without a header", "/raft/stream/message/3", map[string]string{"X-Server-From": ""}, 410, "removed member\n"},
		{"unknown", "/raft/stream/message/4", map[string]string{"X-Server-From": "4"}, 404, "error sender not found\n"},
		{"somebody else", messagePath, map[string]string{"X-Server-From": "4"}, 400, "header X-Server-From differs from the path\n"},
		{"to another", messagePath, map[string]string{"X-Raft-To": "9"}, 412, "to field mismatch\n"},
		{"to nobody", messagePath, map[string]string{"X-Raft-To": ""}, 412, "to field mismatch\n"},
		{"malformed to", messagePath, map[string]string{"X-Raft-To": "zz"}, 400, "header X-Raft-To: not a hexadecimal id: \"zz\"\n"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			got := testmember.Exchange(t, a.URL, "GET", tc.path, testmember.PeerHeader(tc.change), nil)
			require.Equal(t, tc.code, got.StatusCode)
			require.Equal(t, tc.body, got.Body)
			require.Equal(t, testmember.ClusterID.String(), got.Header.Get("X-Etcd-Cluster-ID"))
		})
	}
	require.False(t, testmember.LaneOf(a, 2, "message").Up)
}

// TestUnservedPathAsksNobody: VerifyPeer is not asked about a request that states no sender, for a path that is none of a stream.
func TestUnservedPathAsksNobody(t *testing.T) {
	var asked atomic.Int32
	a := testmember.Start(t, 1, func(tr *rafthttp.Transport) {
		tr.VerifyPeer = func(types.ID, *tls.ConnectionState) error {
			asked.Add(1)
			return errors.New("no")
		}
	})
	unstated := testmember.PeerHeader(map[string]string{"X-Server-From": ""})
	for _, path := range []string{"/raft/stream/message/xyz", "/raft/stream/message/", "/raft/stream/nothing/xyz"} {
		require.Equal(t, 404, testmember.Exchange(t, a.URL, "GET", path, unstated, nil).StatusCode, path)
	}
	require.Zero(t, asked.Load())
	require.Zero(t, a.Status().Refused.Requests)
	require.Equal(t, 403, testmember.Exchange(t, a.URL, "GET", "/raft/stream/message/2", unstated, nil).StatusCode)
	require.EqualValues(t, 1, asked.Load())
}

func TestHandlerStream(t *testing.T) {
	a := testmember.Start(t, 1, func(tr *rafthttp.Transport) {
		tr.ServerVersion, tr.ReadTimeout = "3.6.1", time.Hour // no link heartbeats
	})
	a.AddPeer(2, []string{"http://127.0.0.1:1"})
	for path, lane := range map[string]string{messagePath: "message", msgappPath: "msgapp"} {
		c, err := net.Dial("tcp", strings.TrimPrefix(a.URL, "http://"))
		require.NoError(t, err)
		defer c.Close()
		_, err = io.WriteString(c, strings.Replace(testmember.RequestHead("GET", path, testmember.PeerHeader(nil), 0), "Content-Length: 0\r\n", "", 1))
		require.NoError(t, err)
		testmember.Eventually(t, func() bool { return testmember.LaneOf(a, 2, lane).Up })
		m := testmember.Heartbeat(2, 1, 5)
		if lane == "msgapp" {
			m = testmember.MsgApp(2, 1, 5, []byte("x"))
		}
		a.Send([]*raftpb.Message{m})

		var head bytes.Buffer
		for !strings.HasSuffix(head.String(), "\r\n\r\n") {
			_, err := io.CopyN(&head, c, 1)
			require.NoError(t, err)
		}
		require.True(t, strings.HasPrefix(head.String(), "HTTP/1.1 200 OK\r\n"))
		require.Contains(t, head.String(), "\r\nX-Server-Version: 3.6.1\r\n")
		require.Contains(t, head.String(), "\r\nX-Etcd-Cluster-Id: c1\r\n")
		want := append(testmember.LengthPrefixBytes(uint64(len(testmember.Marshal(t, m)))), testmember.Marshal(t, m)...)
		beat := append(testmember.LengthPrefixBytes(2), 8, byte(raftpb.MsgHeartbeat)) // the first thing on a stream
		if lane == "msgapp" {
			want = append([]byte{2}, want...)
			beat = []byte{0}
		}
		want = append(beat, want...)
		got := make([]byte, len(want))
		_, err = io.ReadFull(c, got)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

func TestHandlerOutsideItsLife(t *testing.T) {
	raft := &testmember.Recorder{}
	tr := &rafthttp.Transport{ID: 1, ClusterID: testmember.ClusterID, Raft: raft}
	m := &testmember.Member{URL: serve(t, tr.Handler())}
	all := func(wantCluster string) {
		t.Helper()
		for _, r := range []struct{ method, path string }{{"POST", "/raft"}, {"POST", "/raft/snapshot"}, {"GET", messagePath}, {"GET", msgappPath}} {
			got := testmember.Exchange(t, m.URL, r.method, r.path, testmember.PeerHeader(nil), bytes.NewReader(testmember.Marshal(t, testmember.Heartbeat(1, 2, 1))))
			require.Equal(t, http.StatusServiceUnavailable, got.StatusCode)
			require.Equal(t, wantCluster, got.Header.Get("X-Etcd-Cluster-ID"))
		}
		require.Equal(t, 405, testmember.Exchange(t, m.URL, "GET", "/raft", nil, nil).StatusCode)
		require.Equal(t, 503, testmember.Exchange(t, m.URL, "GET", "/raft/probing", nil, nil).StatusCode, "it is not well")
	}
	all("")
	require.NoError(t, tr.Start())
	require.Equal(t, 204, testmember.Exchange(t, m.URL, "POST", "/raft", testmember.PeerHeader(nil), bytes.NewReader(testmember.Marshal(t, testmember.Heartbeat(1, 2, 1)))).StatusCode)
	tr.Stop()
	all(testmember.ClusterID.String())
	require.Len(t, raft.Received(), 1)
}
