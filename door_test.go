package rafthttp_test

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// TestKeptConnectionOfARevokedMember: a connection that is never idle is worth
// nothing after the revocation, though it was made before, whatever is asked on it.
func TestKeptConnectionOfARevokedMember(t *testing.T) {
	post := func(t *testing.T) io.Reader { return bytes.NewReader(marshal(t, heartbeat(1, 2, 1))) }
	snapshot := func(t *testing.T) io.Reader { return snapshotBody(t, msgSnap(1, 2, 7), "db") }
	nothing := func(*testing.T) io.Reader { return nil }
	question := map[string]string{"X-Raft-Snapshot-Term": "1", "X-Raft-Snapshot-Index": "7", "X-Raft-Snapshot-Size": "2"}
	other := map[string]string{"X-Raft-To": "9"} // so that the connection is kept
	tests := []struct {
		method, path    string
		header          map[string]string
		body            func(*testing.T) io.Reader
		before, revoked int
	}{
		{"POST", "/raft", nil, post, 204, 401},
		{"POST", "/raft/snapshot", nil, snapshot, 204, 401},
		{"GET", "/raft/snapshot/offset", question, nothing, 204, 401},
		{"GET", messagePath, other, nothing, 412, 403},
		{"GET", msgappPath, other, nothing, 412, 403},
		{"GET", "/raft/probing", nil, nothing, 200, 401},
	}
	for _, tc := range tests {
		t.Run(strings.ReplaceAll(tc.path[1:], "/", " "), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				ca := newAuthority(t)
				store, err := snap.Open(t.TempDir())
				require.NoError(t, err)
				s, all, certs := startAll(t, ca, receives(store))
				info := s.info(2)
				cfg, err := info.ClientConfig()
				require.NoError(t, err)
				tr := &http.Transport{TLSClientConfig: cfg, DialContext: s.net.Host(hostOf(2)).DialContext}
				defer tr.CloseIdleConnections()
				ask := func() (code int) {
					req, err := http.NewRequestWithContext(t.Context(), tc.method, all[0].url+tc.path, tc.body(t))
					require.NoError(t, err)
					req.Header = peerHeader(tc.header)
					resp, err := tr.RoundTrip(req)
					if err != nil {
						return 0
					}
					defer resp.Body.Close()
					_, _ = io.Copy(io.Discard, resp.Body)
					return resp.StatusCode
				}
				for range 30 {
					time.Sleep(time.Second)
					require.Equal(t, tc.before, ask())
				}
				taken := len(all[0].raft.received())
				s.revoke(1, ca, certs[1])
				var code int
				for start := time.Now(); time.Since(start) < recheck+time.Second; time.Sleep(time.Second) {
					if code = ask(); code != tc.before {
						break
					}
					if tc.method == "POST" {
						taken++
					}
				}
				require.Equal(t, tc.revoked, code)
				require.Len(t, all[0].raft.received(), taken)
				time.Sleep(time.Second)
				require.Zero(t, ask(), "nor is there another connection")
			})
		})
	}
}
