package testtls

import (
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/conn"
	"github.com/seed-4d73690b/rafthttp/internal/listener"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// Network are members in a network of memory that speak TLS, each with files of its own that change while it runs.
type Network struct {
	T   *testing.T
	Net *memnet.Network
	Dir string
}

// NewNetwork returns a network without members. The files are in dir.
func NewNetwork(t *testing.T, n *memnet.Network, dir string) *Network {
	return &Network{T: t, Net: n, Dir: dir}
}

// File is the path of a file of a member.
func (s *Network) File(id types.ID, name string) string {
	return filepath.Join(s.Dir, id.String()+"-"+name)
}

// Write replaces a file of a member, as a careful tool does.
func (s *Network) Write(id types.ID, name string, content []byte) {
	s.T.Helper()
	require.NoError(s.T, os.WriteFile(s.File(id, "new"), content, 0o600))
	require.NoError(s.T, os.Rename(s.File(id, "new"), s.File(id, name)))
}

// Issue gives a member a certificate of an authority, and returns it.
func (s *Network) Issue(a *Authority, id types.ID, life time.Duration) *x509.Certificate {
	s.T.Helper()
	cert, _ := a.SignFor(s.T, id.String(), &x509.Certificate{
		DNSNames:    []string{testmember.HostOf(id)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, life)
	for _, name := range []string{"pem", "key"} {
		content, err := os.ReadFile(a.File(id.String() + "." + name))
		require.NoError(s.T, err)
		s.Write(id, name, content)
	}
	return cert
}

// Trust has a member trust these authorities.
func (s *Network) Trust(id types.ID, authorities ...*Authority) {
	s.T.Helper()
	var bundle []byte
	for _, a := range authorities {
		content, err := os.ReadFile(a.File("ca.pem"))
		require.NoError(s.T, err)
		bundle = append(bundle, content...)
	}
	s.Write(id, "ca", bundle)
}

// Revoke gives a member a list of what an authority revoked.
func (s *Network) Revoke(id types.ID, a *Authority, certs ...*x509.Certificate) {
	s.T.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}
	for _, c := range certs {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: time.Now()})
	}
	issuer := *a.Cert
	issuer.KeyUsage, issuer.SubjectKeyId = x509.KeyUsageCRLSign, []byte{1}
	der, err := x509.CreateRevocationList(rand.Reader, list, &issuer, a.Key)
	require.NoError(s.T, err)
	s.Write(id, "crl", der)
}

// Info is what a member with all its files uses.
func (s *Network) Info(id types.ID) transport.TLSInfo {
	return transport.TLSInfo{
		CertFile: s.File(id, "pem"), KeyFile: s.File(id, "key"), TrustedCAFile: s.File(id, "ca"), CRLFile: s.File(id, "crl"),
		ClientCertAuth: true, SkipClientSANVerify: true, // a network of memory has no addresses
	}
}

// Start runs a member.
func (s *Network) Start(id types.ID, tune func(*rafthttp.Transport)) *testmember.Member {
	s.T.Helper()
	ln, err := s.Net.Host(testmember.HostOf(id)).Listen("2380")
	require.NoError(s.T, err)
	info := s.Info(id)
	ln, err = NewListener(testmember.NewDeadlineListener(ln, testmember.ReadTimeout, testmember.WriteTimeout), &info)
	require.NoError(s.T, err)
	return testmember.StartAt(s.T, ln, "https://"+testmember.HostOf(id)+":2380", id, testmember.Tuned(func(tr *rafthttp.Transport) {
		tr.TLSInfo, tr.DialContext = info, s.Net.Host(testmember.HostOf(id)).DialContext
		tr.ReadTimeout = time.Minute // few probes: each is a handshake
	}, tune))
}

// NewListener puts over a plain listener what rafthttp.NewListener does.
func NewListener(l net.Listener, info *transport.TLSInfo) (net.Listener, error) {
	return listener.NewTLS(l, info, conn.DefaultListenLimits)
}

// StartAll runs three members that are all connected, in a bubble.
func StartAll(t *testing.T, ca *Authority, tune func(*rafthttp.Transport)) (*Network, []*testmember.Member, []*x509.Certificate) {
	t.Helper()
	s := &Network{t, testmember.NewNetwork(), ca.Dir}
	var all []*testmember.Member
	var certs []*x509.Certificate
	for id := range types.ID(3) {
		certs = append(certs, s.Issue(ca, id+1, time.Hour))
		s.Trust(id+1, ca)
		s.Revoke(id+1, ca)
		all = append(all, s.Start(id+1, tune))
	}
	for _, m := range all {
		for _, other := range all {
			m.AddPeer(other.ID, []string{other.URL})
		}
	}
	time.Sleep(time.Second)
	for _, m := range all {
		require.Equal(t, 2, m.ActivePeers())
	}
	return s, all, certs
}
