package server_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/certs"
	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/server"
)

// withTLS gives members certificates of an authority.
func withTLS(t *testing.T, ca *certs.Authority) func(*server.Config) {
	return func(cfg *server.Config) {
		cfg.PeerURL = strings.Replace(cfg.PeerURL, "http:", "https:", 1)
		cfg.PeerTLS, cfg.TrustDomain = tlsOf(t, ca, cfg.ID), certs.TrustDomain
	}
}

func tlsOf(t *testing.T, ca *certs.Authority, id uint64) transport.TLSInfo {
	t.Helper()
	cert, key, err := ca.Issue(id)
	require.NoError(t, err)
	return transport.TLSInfo{CertFile: cert, KeyFile: key, TrustedCAFile: ca.File(), ClientCertAuth: true}
}

// A certificate of the authority is good for the member that it names, and requests have the bounds of the threat model.
func TestPeersAreVerified(t *testing.T) {
	ca, err := certs.NewAuthority(t.TempDir())
	require.NoError(t, err)
	c := newCluster(t, 1, withTLS(t, ca))
	for _, tc := range []struct {
		name       string
		cert, from uint64
		header     string
		want       int
	}{
		{"the member", 2, 2, "", http.StatusNoContent},
		{"another member", 3, 2, "", http.StatusUnauthorized},
		{"this very member", 3, 1, "", http.StatusUnauthorized},
		{"a large head", 2, 2, strings.Repeat("x", 100<<10), http.StatusRequestHeaderFieldsTooLarge},
	} {
		t.Run(tc.name, func(t *testing.T) {
			body, err := proto.Marshal(&raftpb.Message{Type: raftpb.MsgHeartbeatResp.Enum(), From: new(tc.from), To: new(uint64(1))})
			require.NoError(t, err)
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.configs[1].PeerURL+rafthttp.RaftPrefix, bytes.NewReader(body))
			require.NoError(t, err)
			req.Header.Set("X-Server-From", types.ID(tc.from).String())
			req.Header.Set("X-Etcd-Cluster-ID", types.ID(c.running[1].Status().ClusterID).String())
			req.Header.Set("X-Server-Version", "3.7.0")
			req.Header.Set("X-Min-Cluster-Version", "3.0.0")
			req.Header.Set("X-Padding", tc.header)
			round, err := rafthttp.NewRoundTripper(tlsOf(t, ca, tc.cert), 0)
			require.NoError(t, err)
			resp, err := round.RoundTrip(req)
			require.NoError(t, err)
			defer resp.Body.Close()
			require.Equal(t, tc.want, resp.StatusCode)
		})
	}
}

// Members whose certificates name them form a cluster.
func TestClusterWithTLS(t *testing.T) {
	ca, err := certs.NewAuthority(t.TempDir())
	require.NoError(t, err)
	c := newCluster(t, 3, withTLS(t, ca))
	for id := range c.running {
		put(t, c.client(id), "k", "v")
	}
	c.requireSameData()
}
