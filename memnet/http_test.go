package memnet_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/memnet"
)

// certificate returns a self-signed certificate for the host "b", and a pool that trusts it. It is valid at the time of
// bubbles, which begins in 2000, and at ours.
func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"b"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2999, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	leaf, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// serve runs an HTTP server on b:443 that returns what it gets, and returns a client on a. Both end with the test.
func serve(t *testing.T, n *memnet.Network, overTLS bool) *http.Client {
	t.Helper()
	ln, err := n.Host("b").Listen("443")
	require.NoError(t, err)
	transport := &http.Transport{DialContext: n.Host("a").DialContext}
	if overTLS {
		cert, pool := certificate(t)
		ln = tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{cert}})
		transport.TLSClientConfig = &tls.Config{RootCAs: pool}
	}
	srv := &http.Server{
		ReadTimeout: time.Minute, WriteTimeout: time.Minute,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body) // all before the answer, or the server closes the connection
			_, _ = w.Write(body)
		}),
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		require.NoError(t, srv.Shutdown(context.Background()))
		require.ErrorIs(t, <-served, http.ErrServerClosed)
	})
	return &http.Client{Transport: transport}
}

func post(t *testing.T, client *http.Client, url string, size int) time.Duration {
	t.Helper()
	start := time.Now()
	want := bytes.Repeat([]byte("x"), size)
	resp, err := client.Post(url, "text/plain", bytes.NewReader(want))
	require.NoError(t, err)
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got))
	return time.Since(start)
}

func TestHTTPInVirtualTime(t *testing.T) {
	bothKinds(t, func(t *testing.T, n *memnet.Network, _ bool) {
		client := serve(t, n, false)
		n.Link("a", "b").SetDelay(3 * time.Second)
		n.Link("b", "a").SetDelay(2 * time.Second)
		require.Equal(t, 10*time.Second, post(t, client, "http://b:443/", 100), "a round trip to dial, one to ask")
		require.Equal(t, 5*time.Second, post(t, client, "http://b:443/", 100), "on the same connection")

		n.Link("b", "a").Cut()
		client.Timeout = 7 * time.Second
		start := time.Now()
		_, err := client.Get("http://b:443/")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 7*time.Second, time.Since(start))
		n.Heal()
	})
}

func TestTLSInVirtualTime(t *testing.T) {
	bothKinds(t, func(t *testing.T, n *memnet.Network, _ bool) {
		client := serve(t, n, true)
		n.Link("a", "b").SetDelay(3 * time.Second)
		n.Link("b", "a").SetDelay(2 * time.Second)
		require.Equal(t, 15*time.Second, post(t, client, "https://b:443/", 100), "one more for the handshake")
		require.Equal(t, 5*time.Second, post(t, client, "https://b:443/", 100))
		n.Reset("a", "b")
		require.Equal(t, 15*time.Second, post(t, client, "https://b:443/", 100), "on a new connection")
	})
}

func TestHTTPInRealTime(t *testing.T) {
	for name, scheme := range map[string]string{"plain": "http", "TLS": "https"} {
		t.Run(name, func(t *testing.T) {
			client := serve(t, memnet.New(), scheme == "https")
			post(t, client, scheme+"://b:443/", 4<<20)
		})
	}
}

func TestRealTimeDelay(t *testing.T) {
	n := memnet.New()
	a, b := connect(t, n)
	n.Link("a", "b").SetDelay(5 * time.Millisecond)
	require.GreaterOrEqual(t, travelTime(t, a, b, "x"), 5*time.Millisecond)
}

// A hijacked connection is how the transport streams: the server's background read is cancelled by a deadline.
func TestHijack(t *testing.T) {
	bothKinds(t, func(t *testing.T, n *memnet.Network, _ bool) {
		ln, err := n.Host("b").Listen("80")
		require.NoError(t, err)
		hijacked := make(chan net.Conn, 1)
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
			}
			hijacked <- c
		})}
		go func() { _ = srv.Serve(ln) }()
		defer srv.Close()

		c, err := n.Host("a").DialContext(t.Context(), "tcp", "b:80")
		require.NoError(t, err)
		defer c.Close()
		write(t, c, "GET / HTTP/1.1\r\nHost: b\r\n\r\n")
		h := <-hijacked
		defer h.Close()
		synctest.Wait()
		require.Zero(t, travelTime(t, h, c, "to the client"))
		require.Zero(t, travelTime(t, c, h, "to the server"))
	})
}

func BenchmarkTransfer(b *testing.B) {
	n := memnet.New()
	ln, err := n.Host("b").Listen("80")
	require.NoError(b, err)
	defer ln.Close()
	from, err := n.Host("a").DialContext(b.Context(), "tcp", "b:80")
	require.NoError(b, err)
	to, err := ln.Accept()
	require.NoError(b, err)
	defer to.Close()
	read := make(chan struct{})
	go func() { _, _ = io.Copy(io.Discard, struct{ io.Reader }{to}); close(read) }()
	msg := make([]byte, 16<<10)
	b.SetBytes(int64(len(msg)))
	b.ReportAllocs()
	for b.Loop() {
		_, _ = from.Write(msg)
	}
	_ = from.Close()
	<-read
}
