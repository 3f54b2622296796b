package operating_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	tlsinfo "go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/statuspage"
)

// TestProbesThatWereNeverAnswered: a peer that has answered no probe since it became active has that as a problem, as one that
// answered first.
func TestProbesThatWereNeverAnswered(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		a := start(t, n, 1, nil)
		b := start(t, n, 2, nil, func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == rafthttp.ProbingPrefix {
					http.NotFound(w, r)
					return
				}
				h.ServeHTTP(w, r)
			})
		})
		meet(a, b)
		time.Sleep(4 * time.Minute)
		require.Empty(t, a.Health().Problems)
		time.Sleep(2 * time.Minute)
		require.True(t, a.peer(t, 2).ProbeStale)
		problems := a.Health().Problems
		require.Len(t, problems, 1)
		require.Equal(t, "probes_fail", problems[0].Kind)
	})
}

// TestUpdatePeerIsNoFailure: a peer whose URLs change has no failure by that, neither by its streams, which end, nor by a POST to the
// URLs before that fails later.
func TestUpdatePeerIsNoFailure(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		a, b := start(t, n, 1, nil), start(t, n, 2, nil)
		meet(a, b)
		time.Sleep(time.Minute)
		require.Empty(t, a.peer(t, 2).LastError)
		a.UpdatePeer(2, append(urls(2), "http://m3:80"))
		time.Sleep(time.Minute)
		require.True(t, a.peer(t, 2).Active)
		require.Empty(t, a.peer(t, 2).LastError)
	})
	simulate(t, func(t *testing.T, n *memnet.Network) {
		a := start(t, n, 1, func(tr *rafthttp.Transport) {
			dial := tr.DialContext
			tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				if strings.HasPrefix(addr, host(3)) {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				return dial(ctx, network, addr)
			}
		})
		b := start(t, n, 2, nil)
		b.AddPeer(1, urls(1))
		a.AddPeer(2, urls(3))
		a.Send([]*raftpb.Message{heartbeat(1, 2)})
		time.Sleep(time.Second)
		a.UpdatePeer(2, urls(2))
		time.Sleep(time.Minute)
		require.NotContains(t, a.peer(t, 2).LastError, "m3:80")
	})
}

// TestStoppedPage: the page of a transport that was stopped says that, in each of its forms.
func TestStoppedPage(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		a, b := start(t, n, 1, nil), start(t, n, 2, nil)
		meet(a, b)
		time.Sleep(time.Minute)
		a.Stop()
		for _, format := range []string{"text", "health", "json", "html"} {
			w := httptest.NewRecorder()
			statuspage.Handler(a.Transport, nil).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/?format="+format, nil))
			require.Contains(t, w.Body.String(), "stopped", format)
			require.NotContains(t, w.Body.String(), "no majority", format)
		}
	})
}

// TestMendedPeerIsToldOfFailures: a report that SnapshotBackoff holds back is made when a cut ends, which may have caused it.
func TestMendedPeerIsToldOfFailures(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		a := start(t, n, 1, func(tr *rafthttp.Transport) { tr.SnapshotBackoff = time.Hour })
		b := start(t, n, 2, nil)
		meet(a, b)
		time.Sleep(time.Second)
		a.CutPeer(2)
		a.SendSnapshot(snapshot(1, 2, strings.NewReader("db"), 2))
		time.Sleep(time.Second)
		failed, _ := a.raft.reported()
		require.Zero(t, failed)
		a.MendPeer(2)
		time.Sleep(time.Second)
		failed, _ = a.raft.reported()
		require.Equal(t, 1, failed)
	})
}

// TestLargeMessageIsNotAFullQueue: a message over the bound is taken by an empty queue, and is on its way.
func TestLargeMessageIsNotAFullQueue(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		n.Link(host(1), host(2)).SetBandwidth(100 << 20)
		a, b := start(t, n, 1, nil), start(t, n, 2, nil)
		meet(a, b)
		time.Sleep(time.Second)
		m := snapshot(1, 2, nil, 0)
		m.Message.Snapshot.Data = make([]byte, 70<<20)
		a.Send([]*raftpb.Message{m.Message})
		time.Sleep(300 * time.Millisecond)
		require.NotEmpty(t, a.peer(t, 2).SentBytes)
		require.Empty(t, a.Health().Problems)
		time.Sleep(10 * time.Second)
	})
}

// TestTextOfTLSServers: what a server's certificate says goes into one short line of what can be printed.
func TestTextOfTLSServers(t *testing.T) {
	for _, name := range []string{strings.Repeat("a", 200_000), "a\nok\n\x1b[2J"} {
		dir := t.TempDir()
		file := filepath.Join(dir, "ca.pem")
		ca := selfSigned(t, "ca")
		require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Certificate[0]}), 0o600))
		ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{selfSigned(t, name)}})
		require.NoError(t, err)
		var serving sync.WaitGroup
		serving.Go(func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				serving.Go(func() {
					_ = c.(*tls.Conn).Handshake()
					c.Close()
				})
			}
		})
		core, logs := observer.New(zap.InfoLevel)
		tr := &rafthttp.Transport{ID: 1, Raft: &reports{}, Logger: zap.New(core), TLSInfo: tlsinfo.TLSInfo{TrustedCAFile: file}}
		require.NoError(t, tr.Start())
		_, port, err := net.SplitHostPort(ln.Addr().String())
		require.NoError(t, err)
		tr.AddPeer(2, []string{"https://localhost:" + port})
		require.Eventually(t, func() bool {
			return tr.Status().Peers[0].LastError != "" && logs.FilterMessageSnippet("failed to dial").Len() > 0
		}, time.Minute, time.Millisecond)
		texts := []string{tr.Status().Peers[0].LastError, tr.Health().Problems[0].Cause}
		for _, e := range logs.All() {
			if text, ok := e.ContextMap()["error"].(string); ok {
				texts = append(texts, text)
			}
		}
		tr.Stop()
		ln.Close()
		serving.Wait()
		for _, text := range texts {
			require.LessOrEqual(t, len(text), 1024)
			require.False(t, strings.ContainsAny(text, "\n\r\x1b"), "%q", text)
		}
	}
}

func selfSigned(t *testing.T, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, DNSNames: []string{name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
