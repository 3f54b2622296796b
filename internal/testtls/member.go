package testtls

import (
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
)

// Start runs a member behind rafthttp.NewListener, at a peer URL with the given scheme.
func Start(t *testing.T, scheme string, id types.ID, info transport.TLSInfo, tune func(*rafthttp.Transport)) *testmember.Member {
	t.Helper()
	u := url.URL{Scheme: scheme, Host: "127.0.0.1:0"}
	if scheme == "unix" || scheme == "unixs" {
		dir, err := os.MkdirTemp("", "rafthttp") // a path that is short enough for a socket
		require.NoError(t, err)
		t.Cleanup(func() { os.RemoveAll(dir) })
		u = url.URL{Scheme: scheme, Path: filepath.Join(dir, id.String()+".sock")}
	}
	ln, err := rafthttp.NewListener(u, &info)
	require.NoError(t, err)
	if u.Path == "" {
		u.Host = ln.Addr().String()
	}
	return testmember.StartAt(t, ln, u.String(), id, func(tr *rafthttp.Transport) {
		tr.TLSInfo = info
		if tune != nil {
			tune(tr)
		}
	})
}
