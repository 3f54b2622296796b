package rafthttp_test

import (
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/conn"
	"github.com/seed-4d73690b/rafthttp/internal/listener"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

const recheck = 10 * time.Second // the default

// secured are members in a network of memory that speak TLS, each with files of
// its own that change while it runs.
type secured struct {
	t   *testing.T
	net *memnet.Network
	dir string
}

func (s *secured) file(id types.ID, name string) string {
	return filepath.Join(s.dir, id.String()+"-"+name)
}

// write replaces a file of a member, as a careful tool does.
func (s *secured) write(id types.ID, name string, content []byte) {
	s.t.Helper()
	require.NoError(s.t, os.WriteFile(s.file(id, "new"), content, 0o600))
	require.NoError(s.t, os.Rename(s.file(id, "new"), s.file(id, name)))
}

// issue gives a member a certificate of an authority, and returns it.
func (s *secured) issue(a *authority, id types.ID, life time.Duration) *x509.Certificate {
	s.t.Helper()
	cert, _ := a.signFor(s.t, id.String(), &x509.Certificate{
		DNSNames:    []string{hostOf(id)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, life)
	for _, name := range []string{"pem", "key"} {
		content, err := os.ReadFile(a.file(id.String() + "." + name))
		require.NoError(s.t, err)
		s.write(id, name, content)
	}
	return cert
}

// trust has a member trust these authorities.
func (s *secured) trust(id types.ID, authorities ...*authority) {
	s.t.Helper()
	var bundle []byte
	for _, a := range authorities {
		content, err := os.ReadFile(a.file("ca.pem"))
		require.NoError(s.t, err)
		bundle = append(bundle, content...)
	}
	s.write(id, "ca", bundle)
}

// revoke gives a member a list of what an authority revoked.
func (s *secured) revoke(id types.ID, a *authority, certs ...*x509.Certificate) {
	s.t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}
	for _, c := range certs {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: time.Now()})
	}
	issuer := *a.cert
	issuer.KeyUsage, issuer.SubjectKeyId = x509.KeyUsageCRLSign, []byte{1}
	der, err := x509.CreateRevocationList(rand.Reader, list, &issuer, a.key)
	require.NoError(s.t, err)
	s.write(id, "crl", der)
}

// info is what a member with all its files uses.
func (s *secured) info(id types.ID) transport.TLSInfo {
	return transport.TLSInfo{
		CertFile: s.file(id, "pem"), KeyFile: s.file(id, "key"), TrustedCAFile: s.file(id, "ca"), CRLFile: s.file(id, "crl"),
		ClientCertAuth: true, SkipClientSANVerify: true, // a network of memory has no addresses
	}
}

// newTLSListener is what NewListener puts over a plain listener.
func newTLSListener(l net.Listener, info *transport.TLSInfo) (net.Listener, error) {
	return listener.NewTLS(l, info, conn.DefaultListenLimits)
}

// start runs a member.
func (s *secured) start(id types.ID, tune func(*rafthttp.Transport)) *member {
	s.t.Helper()
	ln, err := s.net.Host(hostOf(id)).Listen("2380")
	require.NoError(s.t, err)
	info := s.info(id)
	ln, err = newTLSListener(deadlineListener(ln, readTimeout, writeTimeout), &info)
	require.NoError(s.t, err)
	return startMemberAt(s.t, ln, "https://"+hostOf(id)+":2380", id, tuned(func(tr *rafthttp.Transport) {
		tr.TLSInfo, tr.DialContext = info, s.net.Host(hostOf(id)).DialContext
		tr.ReadTimeout = time.Minute // few probes: each is a handshake
	}, tune))
}

// startAll runs three members that are all connected, in a bubble.
func startAll(t *testing.T, ca *authority, tune func(*rafthttp.Transport)) (*secured, []*member, []*x509.Certificate) {
	t.Helper()
	s := &secured{t, newMemnet(), ca.dir}
	var all []*member
	var certs []*x509.Certificate
	for id := range types.ID(3) {
		certs = append(certs, s.issue(ca, id+1, time.Hour))
		s.trust(id+1, ca)
		s.revoke(id+1, ca)
		all = append(all, s.start(id+1, tune))
	}
	for _, m := range all {
		for _, other := range all {
			m.AddPeer(other.ID, []string{other.url})
		}
	}
	time.Sleep(time.Second)
	for _, m := range all {
		require.Equal(t, 2, m.ActivePeers())
	}
	return s, all, certs
}

// load has every member send to every other one until stop is called, which
// returns how many messages each got from each.
func load(t *testing.T, all []*member, every time.Duration, size int) (stop func() uint64) {
	t.Helper()
	done, ended := make(chan struct{}), make(chan uint64, 1)
	end := sync.OnceFunc(func() { close(done) })
	t.Cleanup(end)
	go func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for n := uint64(0); ; n++ {
			for _, from := range all {
				for _, to := range all {
					if from != to {
						from.Send([]*raftpb.Message{msgApp(to.ID, from.ID, n, make([]byte, size)), heartbeat(to.ID, from.ID, n)})
					}
				}
			}
			select {
			case <-tick.C:
			case <-done:
				ended <- n + 1
				return
			}
		}
	}()
	return func() uint64 {
		end()
		return <-ended
	}
}

// probe asks a server for the time, as member 2 and with these files.
func probe(t *testing.T, s *secured, info transport.TLSInfo, url string) error {
	t.Helper()
	cfg, err := info.ClientConfig()
	require.NoError(t, err)
	tr := &http.Transport{TLSClientConfig: cfg, DialContext: s.net.Host(hostOf(2)).DialContext, DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: tr}).Get(url + rafthttp.ProbingPrefix)
	if err == nil {
		resp.Body.Close()
	}
	return err
}
