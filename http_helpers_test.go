package rafthttp_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// teapot is an error of Process that answers by itself.
type teapot struct{}

func (teapot) Error() string { return "teapot" }

// WriteTo has no result, as the transport wants it.
func (teapot) WriteTo(w http.ResponseWriter) { w.WriteHeader(http.StatusTeapot) }

// notTeapot has a WriteTo that is not the one the transport looks for.
type notTeapot struct{}

func (notTeapot) Error() string { return "no teapot" }

func (notTeapot) WriteTo(w http.ResponseWriter) error {
	w.WriteHeader(http.StatusTeapot)
	return nil
}

// peerHeader is what member 2 of the test cluster sends along, as change leaves
// it. An empty value takes a header out.
func peerHeader(change map[string]string) http.Header {
	h := http.Header{
		"X-Server-From": {"2"}, "X-Server-Version": {"3.7.0"}, "X-Min-Cluster-Version": {"3.0.0"},
		"X-Etcd-Cluster-Id": {testCluster.String()}, "X-Raft-To": {"1"},
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

// answer is a response that was read whole.
type answer struct {
	*http.Response
	body string
}

// exchange sends one request on a connection of its own and reads the answer.
func exchange(t *testing.T, url, method, path string, h http.Header, body io.Reader) answer {
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
	return answer{resp, string(b)}
}

// requestHead is a request as bytes, without a body.
func requestHead(method, path string, h http.Header, length int) string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n", method, path, length)
	_ = h.Write(&b)
	return b.String() + "\r\n"
}

// readAnswer reads an answer from a connection, and whether the server closes it
// afterwards.
func readAnswer(t *testing.T, c net.Conn) answer {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return answer{resp, string(b)}
}

func marshal(t *testing.T, m *raftpb.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	require.NoError(t, err)
	return b
}

// serve runs a server for a handler and returns its URL.
func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}
