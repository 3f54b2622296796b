package snapshot

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// TestCloseOfAFullTLSConnection: the close_notify of TLS, for which there is no room, is
// not waited for.
func TestCloseOfAFullTLSConnection(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	cert := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe() // which takes nothing that is not read
		tc := tls.Client(client, &tls.Config{InsecureSkipVerify: true})
		ts := tls.Server(server, &tls.Config{Certificates: []tls.Certificate{cert}, MaxVersion: tls.VersionTLS12})
		var wg sync.WaitGroup
		wg.Go(func() { _ = ts.Handshake() })
		require.NoError(t, tc.Handshake())
		wg.Wait()
		start := time.Now()
		(&peerConn{Conn: tc}).Close()
		require.Zero(t, time.Since(start))
		server.Close()
	})
}

// stuckConn is a connection whose Close hangs, as that of a TCP connection does while the
// kernel copies to it from a file that cannot be read.
type stuckConn struct {
	net.Conn
	free chan struct{}
}

func (c stuckConn) Close() error {
	<-c.free
	return c.Conn.Close()
}

// TestCloseThatHangs: it is waited for, but not for ever, and begun only once.
func TestCloseThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer server.Close()
		c := &peerConn{Conn: stuckConn{client, make(chan struct{})}}
		start := time.Now()
		c.abort()
		require.Zero(t, time.Since(start))
		time.AfterFunc(readerGrace/2, func() { close(c.Conn.(stuckConn).free) })
		c.Close()
		require.Equal(t, readerGrace/2, time.Since(start))

		client, server = net.Pipe()
		defer server.Close()
		c = &peerConn{Conn: stuckConn{client, make(chan struct{})}}
		start = time.Now()
		c.Close()
		require.Equal(t, readerGrace, time.Since(start))
		close(c.Conn.(stuckConn).free)
	})
}
