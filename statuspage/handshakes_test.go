package statuspage_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/statuspage"
)

// TestHandshakes: all formats show handshakes that failed, and who the client was.
func TestHandshakes(t *testing.T) {
	tr := &rafthttp.Transport{ID: 1, ClusterID: 0xcafe, Raft: raftFunc(nil)}
	require.NoError(t, tr.Start())
	defer tr.Stop()
	h := statuspage.Handler(tr, nil)
	for _, format := range []string{"html", "text"} {
		require.NotContains(t, get(h, "/?format="+format).Body.String(), "TLS handshakes failed")
	}
	pair := httptest.NewUnstartedServer(nil)
	defer pair.Close()
	pair.StartTLS()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := rafthttp.NewServer(tr.Handler())
	server.TLSConfig = pair.TLS
	go func() { _ = server.ServeTLS(ln, "", "") }()
	defer server.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	_, err = io.WriteString(c, "GET /<b> HTTP/1.1\r\n\r\n")
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, c)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return decode(t, get(h, "/?format=json")).Status.Handshakes[6].Failures == 1 }, time.Minute, time.Millisecond)
	want := `no TLS: 1, the last one (now|[\d.]+ s ago) with 127\.0\.0\.1:\d+: `
	require.Regexp(t, `TLS handshakes failed:\n  `+want, get(h, "/").Body.String())
	require.Regexp(t, `TLS handshakes failed:</span> <code>`+want, get(h, "/?format=html").Body.String())
	require.Equal(t, http.StatusOK, get(h, "/").Code)
}
