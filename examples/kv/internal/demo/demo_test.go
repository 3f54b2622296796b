package demo

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// Two members with certificates of one authority accept each other; one with a
// certificate of another is refused.
func TestCertificates(t *testing.T) {
	ours, err := newAuthority(t.TempDir())
	require.NoError(t, err)
	others, err := newAuthority(t.TempDir())
	require.NoError(t, err)
	member := func(a *authority, id uint64) *tls.Config {
		certFile, keyFile, err := a.issue(id)
		require.NoError(t, err)
		cert, err := tls.LoadX509KeyPair(certFile, keyFile)
		require.NoError(t, err)
		pem, err := os.ReadFile(ours.caFile())
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

func TestLedgerFindsLongestGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l ledger
		l.watch()
		for _, pause := range []time.Duration{time.Second, 3 * time.Second, 2 * time.Second} {
			time.Sleep(pause)
			l.add(record{})
		}
		require.Equal(t, 3*time.Second, l.longestGap())
		require.Len(t, l.all(), 3)
		l.watch()
		time.Sleep(time.Second)
		l.add(record{})
		require.Equal(t, time.Second, l.longestGap())
	})
}

func TestRecordValue(t *testing.T) {
	a := record{"key/1", 100}
	require.Len(t, a.value(), 100)
	require.Equal(t, a.value(), a.value())
	require.NotEqual(t, a.value(), record{"key/2", 100}.value())
}

func TestBarWithoutTerminal(t *testing.T) {
	var out bytes.Buffer
	b := startBar(&out, "a step")
	b.set(1, 2)
	require.Contains(t, b.line(), "█████░░░░░  50%")
	require.LessOrEqual(t, len([]rune(b.line())), 80)
	b.say("1234.5 MiB/s")
	require.Regexp(t, `a step +1234\.5 MiB/s +0\.0s  █`, b.line())
	require.LessOrEqual(t, len([]rune(b.line())), 80)
	b.finish("done", nil)
	startBar(&out, "another").finish("", errors.New("it broke"))
	require.Regexp(t, `^ok   a step +0\.0s  done\nFAIL another +0\.0s  it broke\n$`, out.String())
}

func TestCount(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		require.Equal(t, want, count(n))
	}
}

func TestFreePorts(t *testing.T) {
	ports, err := freePorts(8)
	require.NoError(t, err)
	seen := make(map[int]bool)
	for _, p := range ports {
		seen[p] = true
	}
	require.Len(t, seen, 8)
}
