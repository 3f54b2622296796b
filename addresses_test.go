package rafthttp_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
)

// authority makes certificates that trust each other.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	a.cert, a.key = a.signFor(t, "ca", &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, 24*time.Hour)
	return a
}

// member returns what a member with this id uses, at both ends of connections.
func (a *authority) member(t *testing.T, id types.ID) transport.TLSInfo {
	t.Helper()
	a.sign(t, id.String(), &x509.Certificate{
		Subject:     pkix.Name{CommonName: id.String()},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	return transport.TLSInfo{
		CertFile: a.file(id.String() + ".pem"), KeyFile: a.file(id.String() + ".key"),
		TrustedCAFile: a.file("ca.pem"), ClientCertAuth: true,
	}
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

// sign writes a certificate by the authority, or by itself, and its key.
func (a *authority) sign(t *testing.T, name string, c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	return a.signFor(t, name, c, time.Hour)
}

// signFor is sign with another life than an hour.
func (a *authority) signFor(t *testing.T, name string, c *x509.Certificate, life time.Duration) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	c.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62))
	require.NoError(t, err)
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(life)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	require.NoError(t, err)
	keyDER, err := x509.MarshalECPrivateKey(key)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(a.file(name+".pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	require.NoError(t, os.WriteFile(a.file(name+".key"), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}), 0o600))
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return cert, key
}

// startAt runs a member behind NewListener, at a peer URL with the given scheme.
func startAt(t *testing.T, scheme string, id types.ID, info transport.TLSInfo, tune func(*rafthttp.Transport)) *member {
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
	return startMemberAt(t, ln, u.String(), id, func(tr *rafthttp.Transport) {
		tr.TLSInfo = info
		if tune != nil {
			tune(tr)
		}
	})
}

func TestSchemes(t *testing.T) {
	ca := newAuthority(t)
	for _, scheme := range []string{"http", "https", "unix", "unixs"} {
		t.Run(scheme, func(t *testing.T) {
			var info [3]transport.TLSInfo
			if scheme == "https" || scheme == "unixs" {
				info[1], info[2] = ca.member(t, 1), ca.member(t, 2)
			}
			a, b := startAt(t, scheme, 1, info[1], nil), startAt(t, scheme, 2, info[2], receives(savesAll))
			connect(t, a, b)
			const n = 300
			for i := range uint64(n) {
				a.Send([]*raftpb.Message{msgApp(2, 1, i, make([]byte, i*100)), heartbeat(2, 1, i)})
				b.Send([]*raftpb.Message{msgApp(1, 2, i, make([]byte, i*100)), heartbeat(1, 2, i)})
			}
			a.Send([]*raftpb.Message{message(raftpb.MsgSnap, 2)}) // by the pipeline
			eventually(t, func() bool { return len(a.raft.received()) == 2*n && len(b.raft.received()) == 2*n+1 })
			snapshot := snapshotTo(2)
			a.SendSnapshot(snapshot)
			require.True(t, <-snapshot.CloseNotify())
			eventually(t, func() bool { return len(a.raft.snapshotReports()) == 2 })
			require.Equal(t, []raft.SnapshotStatus{raft.SnapshotFinish, raft.SnapshotFinish}, a.raft.snapshotReports())
			require.Equal(t, 1, a.ActivePeers())
			require.Zero(t, a.raft.unreachables(2))
		})
	}
}

// TestStrangersAreRefused: a member without a certificate of the authority gets
// nowhere, in either direction.
func TestStrangersAreRefused(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	a := startAt(t, "https", 1, ca.member(t, 1), nil)
	b := startAt(t, "https", 2, other.member(t, 2), nil)
	a.AddPeer(2, []string{b.url})
	b.AddPeer(1, []string{a.url})
	a.Send([]*raftpb.Message{heartbeat(2, 1, 1)})
	b.Send([]*raftpb.Message{heartbeat(1, 2, 1)})
	eventually(t, func() bool { return a.raft.unreachables(2) > 0 && b.raft.unreachables(1) > 0 })
	require.Zero(t, a.ActivePeers()+b.ActivePeers())
	require.Empty(t, a.raft.received())
	require.Empty(t, b.raft.received())
}

// commonName is a VerifyPeer that wants the id as the certificate's common name.
func commonName(id types.ID, state *tls.ConnectionState) error {
	switch {
	case state == nil || len(state.PeerCertificates) == 0:
		return errors.New("no certificate")
	case state.PeerCertificates[0].Subject.CommonName != id.String():
		return fmt.Errorf("certificate of %s", state.PeerCertificates[0].Subject.CommonName)
	}
	return nil
}

func TestVerifyPeer(t *testing.T) {
	verify := func(tr *rafthttp.Transport) { tr.VerifyPeer = commonName }
	ca := newAuthority(t)
	one, two, three := ca.member(t, 1), ca.member(t, 2), ca.member(t, 3)
	tests := []struct {
		name         string
		scheme       string
		infoA, infoB transport.TLSInfo
		tuneA, tuneB func(*rafthttp.Transport)
		ok           bool
	}{
		{"both fit", "https", one, two, verify, verify, true},
		{"nobody looks", "https", one, three, nil, nil, true},
		{"the dialler looks", "https", one, three, verify, nil, false},
		{"the server looks", "https", one, three, nil, verify, true},
		{"the server looks at another's", "https", three, two, nil, verify, false},
		{"no certificates, unnoticed", "http", transport.TLSInfo{}, transport.TLSInfo{}, nil, nil, true},
		{"no certificates", "http", transport.TLSInfo{}, transport.TLSInfo{}, verify, nil, false},
		{"no certificates, seen by the server", "http", transport.TLSInfo{}, transport.TLSInfo{}, nil, verify, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, b := startAt(t, tt.scheme, 1, tt.infoA, tt.tuneA), startAt(t, tt.scheme, 2, tt.infoB, tt.tuneB)
			// b is told by the test, so that all requests are those of a.
			a.AddPeer(2, []string{b.url})
			a.Send([]*raftpb.Message{heartbeat(2, 1, 1)})
			if tt.ok {
				eventually(t, func() bool { return len(b.raft.received()) == 1 })
				require.Zero(t, a.raft.unreachables(2))
				return
			}
			eventually(t, func() bool { return a.raft.unreachables(2) > 0 })
			require.Empty(t, b.raft.received())
			snapshot := snapshotTo(2)
			a.SendSnapshot(snapshot)
			require.False(t, <-snapshot.CloseNotify())
			require.NotEmpty(t, a.Status().Peers[0].LastError)
			require.Zero(t, a.ActivePeers())
		})
	}
}

// TestDialContext: all connections are the hook's, with network and address.
func TestDialContext(t *testing.T) {
	for _, scheme := range []string{"http", "unix"} {
		t.Run(scheme, func(t *testing.T) {
			d := &dials{}
			var networks []string
			a := startAt(t, scheme, 1, transport.TLSInfo{}, nil)
			b := startAt(t, scheme, 2, transport.TLSInfo{}, func(tr *rafthttp.Transport) {
				dial := d.count(dialLoopback)
				tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
					if _, ok := ctx.Deadline(); !ok {
						return nil, errors.New("no deadline")
					}
					conn, err := dial(ctx, network, addr)
					d.mu.Lock()
					defer d.mu.Unlock()
					networks = append(networks, network)
					return conn, err
				}
			})
			connect(t, a, b)
			b.Send([]*raftpb.Message{message(raftpb.MsgSnap, 1)})
			eventually(t, func() bool { return len(a.raft.received()) == 1 })
			u, err := url.Parse(a.url)
			require.NoError(t, err)
			require.GreaterOrEqual(t, d.to(u.Host+u.Path), 3, "two streams and a post")
			want := map[string]string{"http": "tcp", "unix": "unix"}[scheme]
			d.mu.Lock()
			defer d.mu.Unlock()
			for _, network := range networks {
				require.Equal(t, want, network)
			}
		})
	}
}

// TestNewRoundTripper: it reaches peer URLs, and tells members apart from others.
func TestNewRoundTripper(t *testing.T) {
	ca := newAuthority(t)
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			info := ca.member(t, 1)
			a := startAt(t, scheme, 1, info, nil)
			for name, trusted := range map[string]bool{"of the authority": true, "of another": false} {
				info := info
				if !trusted {
					info = newAuthority(t).member(t, 1)
				}
				rt, err := rafthttp.NewRoundTripper(info, time.Second)
				require.NoError(t, err)
				c := &http.Client{Transport: rt}
				resp, err := c.Get(a.url + rafthttp.ProbingPrefix)
				if !trusted && scheme == "https" {
					require.Error(t, err, name)
					continue
				}
				require.NoError(t, err, name)
				require.NoError(t, resp.Body.Close())
				require.Equal(t, http.StatusOK, resp.StatusCode)
				c.CloseIdleConnections()
			}
		})
	}
}
