package security_test

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/internal/testtls"
)

// failedHandshakes returns the reasons for which handshakes have failed.
func failedHandshakes(st rafthttp.Status) map[string]rafthttp.HandshakeStatus {
	all := map[string]rafthttp.HandshakeStatus{}
	for _, h := range st.Handshakes {
		if h.Failures > 0 {
			all[h.Reason] = h
		}
	}
	return all
}

// TestFailedHandshakesAreInStatus: each refused handshake is counted for its reason, with who the last client was, wherever
// NewServer serves the handler.
func TestFailedHandshakesAreInStatus(t *testing.T) {
	ca, other := testtls.NewAuthority(t), testtls.NewAuthority(t)
	here := []net.IP{net.IPv4(127, 0, 0, 1)}
	for _, way := range []string{"NewListener and NewServer", "NewListener and NewServer with a mux", "a listener of one's own and NewServer"} {
		t.Run(way, func(t *testing.T) {
			tr := &rafthttp.Transport{ID: 1, ClusterID: testmember.ClusterID, Raft: &testmember.Recorder{}}
			ln, server := guards[way](t, tr, ca.Member(t, 1))
			require.Empty(t, tr.Status().Handshakes, "before Start")
			require.NoError(t, tr.Start())
			served := make(chan struct{})
			go func() {
				defer close(served)
				_ = server.Serve(ln)
			}()
			t.Cleanup(func() {
				require.NoError(t, server.Close())
				<-served
				tr.Stop()
			})
			require.Empty(t, failedHandshakes(tr.Status()))
			reasons := len(tr.Status().Handshakes)
			require.Positive(t, reasons, "those that have not occurred are there, too")

			before := time.Now()
			stranger := clientOf(t, other, "client", &x509.Certificate{IPAddresses: here})
			stranger.InsecureSkipVerify = true
			for range 3 {
				shakes(t, ln.Addr().String(), stranger)
			}
			shakes(t, ln.Addr().String(), &tls.Config{InsecureSkipVerify: true})
			testmember.Eventually(t, func() bool {
				failed := failedHandshakes(tr.Status())
				return failed["unknown authority"].Failures == 3 && failed["no certificate"].Failures == 1
			})
			require.Len(t, tr.Status().Handshakes, reasons)
			h := failedHandshakes(tr.Status())["unknown authority"]
			require.Contains(t, h.LastError, "x509: certificate signed by unknown authority")
			require.True(t, strings.HasPrefix(h.LastAddress, "127.0.0.1:"), h.LastAddress)
			require.False(t, h.Since.Before(before))
			require.False(t, h.LastAt.Before(h.Since))
			require.Len(t, failedHandshakes(tr.Status()), 2)
		})
	}
}
