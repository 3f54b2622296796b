package rafttest

import (
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"go.etcd.io/etcd/client/pkg/v3/transport"

	"github.com/seed-4d73690b/rafthttp/internal/testcert"
)

// tlsFiles are the certificates of a cluster, in a folder of the test.
type tlsFiles struct {
	dir       string
	authority *testcert.Authority

	mu     sync.Mutex
	issued map[uint64]bool
}

func newTLSFiles(dir string) (*tlsFiles, error) {
	a, err := testcert.NewAuthority("rafttest")
	if err != nil {
		return nil, err
	}
	f := &tlsFiles{dir: dir, authority: a, issued: make(map[uint64]bool)}
	return f, os.WriteFile(f.path("ca.pem"), a.PEM, 0o600)
}

func (f *tlsFiles) path(name string) string { return filepath.Join(f.dir, name) }

// info returns the configuration of a member for both ends of connections. It makes the certificate at the first call.
func (f *tlsFiles) info(id uint64) (transport.TLSInfo, error) {
	n := strconv.FormatUint(id, 10)
	info := transport.TLSInfo{
		CertFile: f.path(n + ".pem"), KeyFile: f.path(n + "-key.pem"), TrustedCAFile: f.path("ca.pem"), ClientCertAuth: true,
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.issued[id] {
		return info, nil
	}
	cert, key, err := f.authority.Issue(Host(id), Host(id))
	if err != nil {
		return info, err
	}
	if err := os.WriteFile(info.CertFile, cert, 0o600); err != nil {
		return info, err
	}
	f.issued[id] = true
	return info, os.WriteFile(info.KeyFile, key, 0o600)
}

// withTLS returns ln with TLS.
func withTLS(ln net.Listener, info transport.TLSInfo) (net.Listener, error) {
	cfg, err := info.ServerConfig()
	if err != nil {
		return nil, err
	}
	return tls.NewListener(ln, cfg), nil
}
