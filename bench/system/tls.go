package system

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"

	"go.etcd.io/etcd/client/pkg/v3/transport"

	"github.com/seed-4d73690b/rafthttp/internal/testcert"
)

// TLS is a certificate that all members of a cluster share, and its CA.
type TLS struct {
	caFile, certFile, keyFile string
	pool                      *x509.CertPool
	certificate               tls.Certificate
}

// NewTLS makes a certificate for loopback and writes it to files in dir.
func NewTLS(dir string) (*TLS, error) {
	authority, err := testcert.NewAuthority("bench CA")
	if err != nil {
		return nil, err
	}
	certPEM, keyPEM, err := authority.Issue("bench member", "127.0.0.1", "localhost")
	if err != nil {
		return nil, err
	}
	t := &TLS{
		caFile: filepath.Join(dir, "ca.pem"), certFile: filepath.Join(dir, "cert.pem"), keyFile: filepath.Join(dir, "key.pem"),
		pool: x509.NewCertPool(),
	}
	t.pool.AppendCertsFromPEM(authority.PEM)
	if t.certificate, err = tls.X509KeyPair(certPEM, keyPEM); err != nil {
		return nil, err
	}
	for path, data := range map[string][]byte{t.caFile: authority.PEM, t.certFile: certPEM, t.keyFile: keyPEM} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// info is t for members of etcd's kind; nil means no TLS.
func (t *TLS) info() transport.TLSInfo {
	if t == nil {
		return transport.TLSInfo{}
	}
	return transport.TLSInfo{CertFile: t.certFile, KeyFile: t.keyFile, TrustedCAFile: t.caFile, ClientCertAuth: true}
}

// config is t for all others, both as a server and as a client; nil means no TLS.
func (t *TLS) config() *tls.Config {
	if t == nil {
		return nil
	}
	return &tls.Config{
		Certificates: []tls.Certificate{t.certificate}, RootCAs: t.pool, ClientCAs: t.pool,
		ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13, ServerName: "localhost",
	}
}
