//go:build linux

package faults_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/peerid"
)

// authority signs certificates of members.
type authority struct {
	s    *scene
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// certificate is the template of a member's.
type certificate = x509.Certificate

func newAuthority(s *scene) *authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(s, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "members"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(s, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(s, err)
	a := &authority{s, s.TempDir(), cert, key}
	a.write("ca.crt", "CERTIFICATE", der)
	return a
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

func (a *authority) write(name, kind string, der []byte) {
	require.NoError(a.s, os.WriteFile(a.file(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}

// issue writes certificate and key of a member, which change may change.
func (a *authority) issue(id types.ID, change func(*certificate)) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.s, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(int64(id) + 100), Subject: pkix.Name{CommonName: "member " + id.String()},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		URIs:        []*url.URL{{Scheme: "spiffe", Host: "cluster.example", Path: "/member/" + id.String()}},
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	require.NoError(a.s, err)
	a.write(id.String()+".crt", "CERTIFICATE", der)
	der, err = x509.MarshalECPrivateKey(key)
	require.NoError(a.s, err)
	a.write(id.String()+".key", "EC PRIVATE KEY", der)
}

// member returns what makes a member use a certificate of the authority, which change may change.
func (a *authority) member(id types.ID, change func(*certificate)) func(*rafthttp.Transport) {
	a.issue(id, change)
	return func(tr *rafthttp.Transport) { a.use(id, tr) }
}

// use makes a member use the certificate that was issued for a member.
func (a *authority) use(id types.ID, tr *rafthttp.Transport) {
	tr.TLSInfo.TrustedCAFile, tr.TLSInfo.ClientCertAuth = a.file("ca.crt"), true
	tr.TLSInfo.CertFile, tr.TLSInfo.KeyFile = a.file(id.String()+".crt"), a.file(id.String()+".key")
}

// revoke makes the list of revoked certificates, which has those of these members.
func (a *authority) revoke(ids ...types.ID) {
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}
	for _, id := range ids {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: big.NewInt(int64(id) + 100), RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
	require.NoError(a.s, err)
	require.NoError(a.s, os.WriteFile(a.file("revoked.crl"), der, 0o600))
}

// meet has two members dial each other.
func meet(one, two *player) {
	one.AddPeer(two.ID, []string{two.url})
	two.AddPeer(one.ID, []string{one.url})
}

// oddCertificate has member 2 show a certificate that was changed.
func oddCertificate(change func(*certificate)) func(*scene) {
	return func(s *scene) {
		ca := newAuthority(s)
		meet(s.member(1, ca.member(1, nil)), s.member(2, ca.member(2, change)))
	}
}

// refusedAs has the words of both ends when a member refuses the certificate of another, by whichever end it dials.
func refusedAs(words string) []string { return []string{words, "remote error: tls: bad certificate"} }

// tlsFaults are those of TLS.
var tlsFaults = []fault{
	{"a certificate that has expired", []string{"certificate has expired or is not yet valid", "remote error: tls: expired certificate"},
		oddCertificate(func(c *certificate) { c.NotAfter = time.Now().Add(-time.Minute) })},
	{"a certificate for a name that nobody dials", refusedAs("x509: certificate is valid for …, not …"),
		oddCertificate(func(c *certificate) { c.IPAddresses = []net.IP{net.IPv4(192, 0, 2, 1)} })},
	{"a certificate for another address than the client's", []string{"certificate of … is for …"},
		oddCertificate(func(c *certificate) { c.IPAddresses = []net.IP{net.IPv4(192, 0, 2, 1)} })},
	{"a certificate for clients only", refusedAs("x509: certificate specifies an incompatible key usage"), oddCertificate(func(c *certificate) {
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	})},
	{"a certificate for servers only", refusedAs("x509: certificate specifies an incompatible key usage"), oddCertificate(func(c *certificate) {
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	})},
	{"an authority that the other does not trust",
		[]string{"x509: certificate signed by unknown authority", "remote error: tls: unknown certificate authority"}, func(s *scene) {
			ca, other := newAuthority(s), newAuthority(s)
			one, two := s.member(1, ca.member(1, nil)), s.member(2, both(other.member(2, nil), func(tr *rafthttp.Transport) {
				tr.TLSInfo.TrustedCAFile = ca.file("ca.crt")
			}))
			meet(one, two)
		}},
	{"a certificate that is revoked", refusedAs("certificate … is revoked"), func(s *scene) {
		ca := newAuthority(s)
		ca.revoke(2)
		list := func(tr *rafthttp.Transport) { tr.TLSInfo.CRLFile = ca.file("revoked.crl") }
		meet(s.member(1, both(ca.member(1, nil), list)), s.member(2, ca.member(2, nil)))
	}},
	{"no certificate", []string{"remote error: tls: certificate required", "tls: client didn't provide a certificate"}, func(s *scene) {
		ca := newAuthority(s)
		one := s.member(1, ca.member(1, nil))
		s.member(2, func(tr *rafthttp.Transport) { tr.TLSInfo.TrustedCAFile = ca.file("ca.crt") }).AddPeer(1, []string{one.url})
	}},
	{"https to a member without TLS", []string{"tls: first record does not look like a TLS handshake"}, func(s *scene) {
		ca := newAuthority(s)
		two := s.member(2, nil)
		s.member(1, ca.member(1, nil)).AddPeer(2, []string{strings.Replace(two.url, "http", "https", 1)})
	}},
	{"http to a member with TLS", []string{"Client sent an HTTP request to an HTTPS server"}, func(s *scene) {
		two := s.member(2, newAuthority(s).member(2, nil))
		s.member(1, nil).AddPeer(2, []string{strings.Replace(two.url, "https", "http", 1)})
	}},
	{"http to a server of the application's with TLS", []string{"Client sent an HTTP request to an HTTPS server"}, func(s *scene) {
		ca := newAuthority(s)
		ca.issue(2, nil)
		pair, err := tls.LoadX509KeyPair(ca.file("2.crt"), ca.file("2.key"))
		require.NoError(s, err)
		ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12})
		require.NoError(s, err)
		srv := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: patience, ErrorLog: log.New(io.Discard, "", 0)}
		s.Cleanup(func() { srv.Close() })
		go func() { _ = srv.Serve(ln) }()
		s.member(1, nil).AddPeer(2, []string{"http://" + ln.Addr().String()})
	}},
	{"the URL of another member, with VerifyPeer",
		[]string{"identity of the member is not proven, or the peer URL leads to another member"}, func(s *scene) {
			ca := newAuthority(s)
			one, two := s.member(1, both(ca.member(1, nil), verify)), s.member(2, both(ca.member(2, nil), verify))
			two.AddPeer(1, []string{one.url})
			one.AddPeer(3, []string{two.url})
		}},
	{"a certificate of another member, with VerifyPeer", []string{"certificate does not fit the member id"}, func(s *scene) {
		ca := newAuthority(s)
		one := s.member(1, both(ca.member(1, nil), verify))
		s.member(2, ca.member(3, nil)).AddPeer(1, []string{one.url})
	}},
}

func both(a, b func(*rafthttp.Transport)) func(*rafthttp.Transport) {
	return func(tr *rafthttp.Transport) {
		a(tr)
		b(tr)
	}
}

// verify has a member ask for the id in certificates.
func verify(tr *rafthttp.Transport) {
	var err error
	if tr.VerifyPeer, err = peerid.SPIFFE("cluster.example"); err != nil {
		panic(err)
	}
}
