package testtls

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/client/pkg/v3/types"
)

// Authority makes certificates that trust each other, as files in Dir.
type Authority struct {
	Dir  string
	Cert *x509.Certificate
	Key  *ecdsa.PrivateKey
}

// Member returns what a member with this id uses, at both ends of connections.
func (a *Authority) Member(t *testing.T, id types.ID) transport.TLSInfo {
	t.Helper()
	a.Sign(t, id.String(), &x509.Certificate{
		Subject:     pkix.Name{CommonName: id.String()},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	return transport.TLSInfo{
		CertFile: a.File(id.String() + ".pem"), KeyFile: a.File(id.String() + ".key"),
		TrustedCAFile: a.File("ca.pem"), ClientCertAuth: true,
	}
}

// File is the path of a file of the authority.
func (a *Authority) File(name string) string { return filepath.Join(a.Dir, name) }

// Sign writes a certificate by the authority, or by itself, and its key.
func (a *Authority) Sign(t *testing.T, name string, c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	return a.SignFor(t, name, c, time.Hour)
}

// SignFor is Sign with another lifetime than an hour.
func (a *Authority) SignFor(t *testing.T, name string, c *x509.Certificate, life time.Duration) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	c.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62))
	require.NoError(t, err)
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(life)
	parent, signer := a.Cert, a.Key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	require.NoError(t, err)
	keyDER, err := x509.MarshalECPrivateKey(key)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(a.File(name+".pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	require.NoError(t, os.WriteFile(a.File(name+".key"), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}), 0o600))
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return cert, key
}

// NewAuthority returns an authority with a folder of its own.
func NewAuthority(t *testing.T) *Authority {
	t.Helper()
	a := &Authority{Dir: t.TempDir()}
	a.Cert, a.Key = a.SignFor(t, "ca", &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, 24*time.Hour)
	return a
}
