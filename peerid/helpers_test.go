package peerid_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// holder is somebody who holds a certificate and its key.
type holder struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// issue makes a certificate, signed by ca or, where that is nil, by itself.
func issue(t *testing.T, ca *holder, template x509.Certificate) *holder {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	signer := &holder{&template, key}
	if ca != nil {
		signer = ca
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, signer.cert, key.Public(), signer.key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return &holder{cert, key}
}

// member is a certificate with these names, for both ends of a connection.
func member(t *testing.T, cn string, uris, dns, ips []string) *holder {
	t.Helper()
	template := x509.Certificate{Subject: pkix.Name{CommonName: cn}, DNSNames: dns}
	for _, s := range uris {
		u, err := url.Parse(s)
		require.NoError(t, err)
		template.URIs = append(template.URIs, u)
	}
	for _, s := range ips {
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(s))
	}
	return issue(t, nil, template)
}

// state is what a connection with this certificate looks like, once it was verified.
func (h *holder) state() *tls.ConnectionState {
	return &tls.ConnectionState{
		PeerCertificates: []*x509.Certificate{h.cert},
		VerifiedChains:   [][]*x509.Certificate{{h.cert}},
	}
}
