package metrics_test

import (
	"io"
	"net"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/metrics"
)

// TestHandshakes: there is a counter for each reason, from the start, and it counts.
func TestHandshakes(t *testing.T) {
	tr := &rafthttp.Transport{ID: 1, ClusterID: 0xcafe, Raft: raftFunc(nil)}
	c := metrics.New(tr, nil)
	require.NoError(t, tr.Start())
	defer tr.Stop()
	counters := func() map[string]float64 {
		all := map[string]float64{}
		for reason, m := range series(gather(t, c)["rafthttp_handshake_failures_total"]) {
			all[reason] = value(m)
		}
		return all
	}
	want := map[string]float64{
		"refused_by_the_client": 0, "no_certificate": 0, "unknown_authority": 0, "expired": 0, "wrong_address": 0, "revoked": 0,
		"no_TLS": 0, "too_many": 0, "other": 0,
	}
	require.Equal(t, want, counters())
	pair := httptest.NewUnstartedServer(nil)
	defer pair.Close()
	pair.StartTLS()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := rafthttp.NewServer(tr.Handler())
	server.TLSConfig = pair.TLS
	go func() { _ = server.ServeTLS(ln, "", "") }()
	defer server.Close()
	conn, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "GET / HTTP/1.1\r\n\r\n")
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, conn)
	require.NoError(t, err)
	want["no_TLS"] = 1
	require.Eventually(t, func() bool { return counters()["no_TLS"] == 1 }, time.Minute, time.Millisecond)
	require.Equal(t, want, counters())
}
