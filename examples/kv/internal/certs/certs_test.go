package certs_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/certs"
)

// Two members with certificates of one authority accept each other; one with a
// certificate of another is refused.
func TestCertificates(t *testing.T) {
	ours, err := certs.NewAuthority(t.TempDir())
	require.NoError(t, err)
	others, err := certs.NewAuthority(t.TempDir())
	require.NoError(t, err)
	member := func(a *certs.Authority, id uint64) *tls.Config {
		certFile, keyFile, err := a.Issue(id)
		require.NoError(t, err)
		cert, err := tls.LoadX509KeyPair(certFile, keyFile)
		require.NoError(t, err)
		pem, err := os.ReadFile(ours.File())
		require.NoError(t, err)
		pool := x509.NewCertPool()
		require.True(t, pool.AppendCertsFromPEM(pem))
		return &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: pool, ClientCAs: pool,
			ClientAuth: tls.RequireAndVerifyClientCert, ServerName: "127.0.0.1"}
	}
	handshake := func(server, client *tls.Config) error {
		a, b := net.Pipe()
		defer a.Close()
		defer b.Close()
		served := make(chan error, 1)
		go func() { served <- tls.Server(a, server).HandshakeContext(t.Context()) }()
		cerr := tls.Client(b, client).HandshakeContext(t.Context())
		if cerr != nil {
			_ = b.Close()
		}
		return errors.Join(cerr, <-served)
	}
	require.NoError(t, handshake(member(ours, 1), member(ours, 2)))
	require.NoError(t, handshake(member(ours, 2), member(ours, 1)))
	require.Error(t, handshake(member(others, 1), member(ours, 2)))
}
