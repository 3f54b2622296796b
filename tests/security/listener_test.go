package security_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/transport"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/internal/testtls"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// clientOf returns the TLS configuration of a client with this certificate.
func clientOf(t *testing.T, a *testtls.Authority, name string, c *x509.Certificate) *tls.Config {
	t.Helper()
	c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	a.Sign(t, name, c)
	info := transport.TLSInfo{CertFile: a.File(name + ".pem"), KeyFile: a.File(name + ".key"), TrustedCAFile: a.File("ca.pem"), ServerName: "localhost"}
	cfg, err := info.ClientConfig()
	require.NoError(t, err)
	return cfg
}

// greets accepts connections and says "hi" on each, until the test ends.
func greets(t *testing.T, ln net.Listener) {
	t.Helper()
	done := make(chan struct{})
	t.Cleanup(func() {
		ln.Close()
		<-done
	})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "hi")
			c.Close()
		}
	}()
}

// greeted dials and reports whether the server let us in.
func greeted(t *testing.T, network, addr string, cfg *tls.Config) error {
	t.Helper()
	c, err := net.Dial(network, addr)
	require.NoError(t, err)
	defer c.Close()
	if cfg != nil {
		c = tls.Client(c, cfg)
	}
	_, err = io.ReadFull(c, make([]byte, 2))
	return err
}

func TestListenerChecksClients(t *testing.T) {
	ca, other := testtls.NewAuthority(t), testtls.NewAuthority(t)
	here, elsewhere := []net.IP{net.IPv4(127, 0, 0, 1)}, []net.IP{net.IPv4(10, 9, 8, 7)}
	tests := []struct {
		name    string
		ca      *testtls.Authority
		cert    x509.Certificate
		skip    bool
		scheme  string
		refused bool
	}{
		{name: "address fits", ca: ca, cert: x509.Certificate{IPAddresses: here}},
		{name: "one of the addresses fits", ca: ca, cert: x509.Certificate{IPAddresses: append(elsewhere, here...)}},
		{name: "address of another", ca: ca, cert: x509.Certificate{IPAddresses: elsewhere}, refused: true},
		{name: "name fits", ca: ca, cert: x509.Certificate{DNSNames: []string{"localhost"}}},
		{name: "name fits, address does not", ca: ca, cert: x509.Certificate{IPAddresses: elsewhere, DNSNames: []string{"localhost"}}},
		{name: "name of another", ca: ca, cert: x509.Certificate{DNSNames: []string{"*.example.invalid"}}, refused: true},
		{name: "neither names nor addresses", ca: ca},
		{name: "address of another, not looked at", ca: ca, cert: x509.Certificate{IPAddresses: elsewhere}, skip: true},
		{name: "address over a socket", ca: ca, cert: x509.Certificate{IPAddresses: elsewhere}, scheme: "unixs"},
		{name: "another authority", ca: other, cert: x509.Certificate{IPAddresses: here}, refused: true},
		{name: "no certificate", refused: true},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			info := ca.Member(t, 1)
			info.SkipClientSANVerify = tc.skip
			failures := make(chan error, 10)
			info.HandshakeFailure = func(c *tls.Conn, err error) {
				if c != nil {
					failures <- err
				}
			}
			u := url.URL{Scheme: "https", Host: "127.0.0.1:0"}
			if tc.scheme == "unixs" {
				t.Chdir(t.TempDir())
				u = url.URL{Scheme: "unixs", Host: "localhost:1"}
			}
			ln, err := rafthttp.NewListener(u, &info)
			require.NoError(t, err)
			greets(t, ln)
			cfg := &tls.Config{InsecureSkipVerify: true}
			if tc.ca != nil {
				cfg = clientOf(t, tc.ca, "client", &tc.cert)
				cfg.InsecureSkipVerify = true
			}
			err = greeted(t, ln.Addr().Network(), ln.Addr().String(), cfg)
			if !tc.refused {
				require.NoError(t, err)
				require.Empty(t, failures)
				return
			}
			require.Error(t, err)
			require.Error(t, <-failures)
		})
	}
}

func TestListenerRevokedClient(t *testing.T) {
	ca := testtls.NewAuthority(t)
	info := ca.Member(t, 1)
	info.CRLFile = ca.File("crl")
	revoked := &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	good := &x509.Certificate{IPAddresses: revoked.IPAddresses}
	revokedCfg, goodCfg := clientOf(t, ca, "revoked", revoked), clientOf(t, ca, "good", good)
	issuer := *ca.Cert
	issuer.KeyUsage, issuer.SubjectKeyId = x509.KeyUsageCRLSign, []byte{1}
	list, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: revoked.SerialNumber, RevocationTime: time.Now()}},
	}, &issuer, ca.Key)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(info.CRLFile, list, 0o600))

	ln, err := rafthttp.NewListener(url.URL{Scheme: "https", Host: "127.0.0.1:0"}, &info)
	require.NoError(t, err)
	greets(t, ln)
	require.NoError(t, greeted(t, "tcp", ln.Addr().String(), goodCfg))
	require.Error(t, greeted(t, "tcp", ln.Addr().String(), revokedCfg))
}

func TestListenerArguments(t *testing.T) {
	ca := testtls.NewAuthority(t)
	info := ca.Member(t, 1)
	noList, listInPEM := ca.Member(t, 2), ca.Member(t, 3)
	noList.CRLFile, listInPEM.CRLFile = "/none", listInPEM.TrustedCAFile
	taken, err := rafthttp.NewListener(url.URL{Scheme: "http", Host: "127.0.0.1:0"}, nil)
	require.NoError(t, err)
	defer taken.Close()
	https := url.URL{Scheme: "https", Host: "127.0.0.1:0"}
	tests := []struct {
		name string
		u    url.URL
		info *transport.TLSInfo
		text string
	}{
		{"scheme", url.URL{Scheme: "ftp", Host: "127.0.0.1:0"}, nil, "want http, https, unix or unixs"},
		{"no scheme", url.URL{Host: "127.0.0.1:0"}, nil, "want http, https, unix or unixs"},
		{"no port", url.URL{Scheme: "http", Host: "127.0.0.1"}, nil, "missing port"},
		{"port in use", url.URL{Scheme: "http", Host: taken.Addr().String()}, nil, "address already in use"},
		{"no folder", url.URL{Scheme: "unix", Path: "/none/here/a.sock"}, nil, "no such file"},
		{"no TLSInfo", https, nil, "must name CertFile and KeyFile"},
		{"empty TLSInfo", https, &transport.TLSInfo{}, "must name CertFile and KeyFile"},
		{"no certificate", https, &transport.TLSInfo{CertFile: "/none", KeyFile: "/none"}, "no such file"},
		{"no revocation list", https, &noList, "no such file"},
		{"revocation list in PEM", https, &listInPEM, "has to be in DER"},
	}
	for _, tc := range tests {
		_, err := rafthttp.NewListener(tc.u, tc.info)
		require.ErrorContains(t, err, tc.text, tc.name)
	}

	socket := url.URL{Scheme: "unixs", Path: filepath.Join(t.TempDir(), "a.sock")}
	require.NoError(t, os.WriteFile(socket.Path, nil, 0o600)) // left over
	ln, err := rafthttp.NewListener(socket, &info)
	require.NoError(t, err)
	require.NoError(t, ln.Close())
	require.NoFileExists(t, socket.Path)
	_, err = ln.Accept()
	require.ErrorIs(t, err, net.ErrClosed)
}

// tlsListener is what NewListener returns for https, in a network of memory.
func tlsListener(t *testing.T, n *memnet.Network, info transport.TLSInfo, wrap func(net.Listener) net.Listener) net.Listener {
	t.Helper()
	ln, err := n.Host("server").Listen("443")
	require.NoError(t, err)
	info.SkipClientSANVerify = true
	ln = testmember.NewDeadlineListener(ln, rafthttp.DefaultConnReadTimeout, rafthttp.DefaultConnWriteTimeout)
	if wrap != nil {
		ln = wrap(ln)
	}
	ln, err = testtls.NewListener(ln, &info)
	require.NoError(t, err)
	return ln
}

func dialServer(t *testing.T, n *memnet.Network) net.Conn {
	t.Helper()
	c, err := n.Host("client").DialContext(context.Background(), "tcp", "server:443")
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// closedAfter returns how long it takes until the server closes the connection.
func closedAfter(c net.Conn) time.Duration {
	start := time.Now()
	_, _ = io.Copy(io.Discard, c)
	return time.Since(start)
}

func TestListenerCutsSilentHandshakes(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		ca := testtls.NewAuthority(t) // of the bubble's time
		info := ca.Member(t, 1)
		failed := 0
		info.HandshakeFailure = func(*tls.Conn, error) { failed++ }
		n := testmember.NewNetwork()
		greets(t, tlsListener(t, n, info, nil))
		require.Equal(t, 5*time.Second, closedAfter(dialServer(t, n)), "silent")
		synctest.Wait()
		require.Equal(t, 1, failed)

		slow := dialServer(t, n)
		go func() {
			hello := "\x16\x03\x01\x01\x00\x01\x00\x00\xfc\x03\x03" + strings.Repeat("x", 100)
			for i := range hello {
				if _, err := io.WriteString(slow, hello[i:i+1]); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}()
		require.Equal(t, 10*time.Second, closedAfter(slow), "a byte at a time")
		time.Sleep(time.Minute)
	})
}

func TestListenerCutsSilentConnections(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		n := testmember.NewNetwork()
		plain, err := n.Host("server").Listen("443")
		require.NoError(t, err)
		ln := testmember.NewDeadlineListener(plain, 3*time.Second, 2*time.Second)
		defer ln.Close()
		c := dialServer(t, n)
		s, err := ln.Accept()
		require.NoError(t, err)
		defer s.Close()

		start := time.Now()
		for range 3 { // each read has its own deadline
			time.Sleep(2 * time.Second)
			_, err = io.WriteString(c, "x")
			require.NoError(t, err)
			_, err = s.Read(make([]byte, 1))
			require.NoError(t, err)
		}
		_, err = s.Read(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Equal(t, 9*time.Second, time.Since(start))
		_, err = s.Write(make([]byte, 1<<20)) // nobody reads it
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Equal(t, 11*time.Second, time.Since(start))
	})
}

// Close ends handshakes, and connections that nobody accepted.
func TestListenerClose(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		ca := testtls.NewAuthority(t) // of the bubble's time
		n := testmember.NewNetwork()
		ln := tlsListener(t, n, ca.Member(t, 1), nil)
		silent := []net.Conn{dialServer(t, n), dialServer(t, n)}
		ready := tls.Client(dialServer(t, n), clientOf(t, ca, "client", &x509.Certificate{}))
		require.NoError(t, ready.Handshake())
		synctest.Wait()
		require.NoError(t, ln.Close())
		_, err := ln.Accept()
		require.ErrorIs(t, err, net.ErrClosed)
		for _, c := range append(silent, ready) {
			require.Zero(t, closedAfter(c))
		}
	})
}

// passing is an error that Accept may return for want of file descriptors.
type passing struct{ error }

func (passing) Temporary() bool { return true }
func (passing) Timeout() bool   { return false }

// failsAtFirst is a listener whose Accept fails a few times.
type failsAtFirst struct {
	net.Listener
	left int
	err  error
}

func (l *failsAtFirst) Accept() (net.Conn, error) {
	if l.left > 0 {
		l.left--
		return nil, l.err
	}
	return l.Listener.Accept()
}

func TestListenerOutlivesPassingErrors(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		ca := testtls.NewAuthority(t) // of the bubble's time
		n := testmember.NewNetwork()
		greets(t, tlsListener(t, n, ca.Member(t, 1), func(ln net.Listener) net.Listener {
			return &failsAtFirst{ln, 10, passing{io.ErrNoProgress}}
		}))
		c := tls.Client(dialServer(t, n), clientOf(t, ca, "client", &x509.Certificate{}))
		_, err := io.ReadFull(c, make([]byte, 2))
		require.NoError(t, err)

		other := tlsListener(t, testmember.NewNetwork(), ca.Member(t, 1), func(ln net.Listener) net.Listener {
			return &failsAtFirst{ln, 1, io.ErrNoProgress}
		})
		_, err = other.Accept()
		require.ErrorIs(t, err, io.ErrNoProgress)
		require.NoError(t, other.Close())
	})
}

func TestRoundTripperOverSockets(t *testing.T) {
	ca := testtls.NewAuthority(t)
	info := ca.Member(t, 1)
	t.Chdir(t.TempDir())
	for _, scheme := range []string{"unix", "unixs"} {
		ln, err := rafthttp.NewListener(url.URL{Scheme: scheme, Host: "localhost:1"}, &info)
		require.NoError(t, err)
		m := testmember.StartOn(t, ln, 1, nil)
		rt, err := rafthttp.NewRoundTripper(info, 0)
		require.NoError(t, err)
		c := &http.Client{Transport: rt}
		resp, err := c.Get(scheme + "://localhost:1" + rafthttp.ProbingPrefix)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusOK, resp.StatusCode)
		c.CloseIdleConnections()
		m.Server.Close()
	}

	rt, err := rafthttp.NewRoundTripper(info, 0)
	require.NoError(t, err)
	body := &testmember.Database{Reader: strings.NewReader("x")}
	req, err := http.NewRequest(http.MethodPost, "ftp://a:1/raft", body)
	require.NoError(t, err)
	resp, err := rt.RoundTrip(req)
	if err == nil {
		resp.Body.Close()
	}
	require.ErrorContains(t, err, "unknown scheme")
	require.EqualValues(t, 1, body.Closes.Load())

	for _, bad := range []transport.TLSInfo{{CertFile: "/none", KeyFile: "/none"}, {LocalAddr: "no address"}} {
		_, err = rafthttp.NewRoundTripper(bad, 0)
		require.Error(t, err)
	}
}
