package testmember

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp"
)

// EndpointOf names the endpoint that a request is for.
func EndpointOf(path string) string {
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

// Ask has a Transport serve one request, without a server.
func Ask(t *testing.T, m *rafthttp.Transport, method, path string, h http.Header, body io.Reader) *httptest.ResponseRecorder {
	t.Helper()
	r, w := httptest.NewRequestWithContext(t.Context(), method, path, body), httptest.NewRecorder()
	r.Header = h
	m.Handler().ServeHTTP(w, r)
	return w
}

// PostBody is the body of a POST of a message.
func PostBody(t *testing.T, m *raftpb.Message) io.Reader { return bytes.NewReader(Marshal(t, m)) }

// Teapot is an error of Process that answers by itself.
type Teapot struct{}

// Error implements error.
func (Teapot) Error() string { return "teapot" }

// WriteTo has no result, as the transport wants it.
func (Teapot) WriteTo(w http.ResponseWriter) { w.WriteHeader(http.StatusTeapot) }

// NotTeapot has a WriteTo that is not the one the transport looks for.
type NotTeapot struct{}

// Error implements error.
func (NotTeapot) Error() string { return "no teapot" }

// WriteTo returns an error, as io.WriterTo does.
func (NotTeapot) WriteTo(w http.ResponseWriter) error {
	w.WriteHeader(http.StatusTeapot)
	return nil
}

// PeerHeader is the header that member 2 of the test cluster sends, as change leaves it. An empty value removes a header.
func PeerHeader(change map[string]string) http.Header {
	h := http.Header{
		"X-Server-From": {"2"}, "X-Server-Version": {"3.7.0"}, "X-Min-Cluster-Version": {"3.0.0"},
		"X-Etcd-Cluster-Id": {ClusterID.String()}, "X-Raft-To": {"1"},
	}
	for k, v := range change {
		if v == "" {
			h.Del(k)
		} else {
			h.Set(k, v)
		}
	}
	return h
}

// Answer is a response that was read to its end.
type Answer struct {
	*http.Response
	Body string
}

// Exchange sends one request on a connection of its own and reads the answer.
func Exchange(t *testing.T, url, method, path string, h http.Header, body io.Reader) Answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url+path, body)
	require.NoError(t, err)
	if h != nil {
		req.Header = h
	}
	tr := &http.Transport{DisableKeepAlives: true}
	resp, err := tr.RoundTrip(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return Answer{resp, string(b)}
}

// RequestHead is the head of a request as bytes.
func RequestHead(method, path string, h http.Header, length int) string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n", method, path, length)
	_ = h.Write(&b)
	return b.String() + "\r\n"
}

// ReadAnswer reads an answer from a connection.
func ReadAnswer(t *testing.T, c net.Conn) Answer {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return Answer{resp, string(b)}
}

// Marshal encodes a message.
func Marshal(t *testing.T, m *raftpb.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	require.NoError(t, err)
	return b
}

// SnapshotBody is the body of a POST of a snapshot.
func SnapshotBody(t *testing.T, m *raftpb.Message, db string) io.Reader {
	head := Marshal(t, m)
	return io.MultiReader(bytes.NewReader(LengthPrefixBytes(uint64(len(head)))), bytes.NewReader(head), strings.NewReader(db))
}

// LengthPrefixBytes is a length as the wire has it.
func LengthPrefixBytes(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// MaxRemotes is how many remotes a Transport has at most.
const MaxRemotes = 128

// IntroduceBy has m learn of a member by a POST of msg that states its URLs.
func IntroduceBy(t *testing.T, m *Member, id types.ID, urls string, msg *raftpb.Message) {
	t.Helper()
	body, err := proto.Marshal(msg)
	require.NoError(t, err)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, rafthttp.RaftPrefix, strings.NewReader(string(body)))
	require.NoError(t, err)
	r.Header.Set("X-Server-From", id.String())
	r.Header.Set("X-Server-Version", "3.7.0")
	r.Header.Set("X-Min-Cluster-Version", "3.0.0")
	r.Header.Set("X-Etcd-Cluster-ID", ClusterID.String())
	r.Header.Set("X-PeerURLs", urls)
	w := &StatusWriter{HeaderMap: http.Header{}}
	m.Server.Handler.ServeHTTP(w, r)
	require.Equal(t, http.StatusNoContent, w.code)
}
