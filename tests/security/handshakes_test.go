package security_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/internal/testtls"
)

const handshakeFailed = "a TLS handshake failed; further ones like it are not logged for a while"

// guarded is a server of a member that speaks TLS, and what it logged.
type guarded struct {
	addr  string
	lines *observer.ObservedLogs
	end   func() // returns when all that was to be logged is
}

// failures returns what was logged of handshakes.
func (g *guarded) failures() []observer.LoggedEntry {
	return g.lines.FilterMessage(handshakeFailed).All()
}

// guards are the ways to serve TLS in which a refusal can be seen.
var guards = map[string]func(t *testing.T, tr *rafthttp.Transport, info transport.TLSInfo) (net.Listener, *http.Server){
	"NewListener with a logger": func(t *testing.T, tr *rafthttp.Transport, info transport.TLSInfo) (net.Listener, *http.Server) {
		info.Logger = tr.Logger
		return listens(t, info), &http.Server{Handler: tr.Handler()}
	},
	"NewListener and NewServer": func(t *testing.T, tr *rafthttp.Transport, info transport.TLSInfo) (net.Listener, *http.Server) {
		return listens(t, info), rafthttp.NewServer(tr.Handler())
	},
	"NewListener and NewServer with a mux": func(t *testing.T, tr *rafthttp.Transport, info transport.TLSInfo) (net.Listener, *http.Server) {
		mux := http.NewServeMux()
		s := rafthttp.NewServer(mux)
		mux.Handle(rafthttp.RaftPrefix, tr.Handler())
		mux.Handle(rafthttp.RaftPrefix+"/", tr.Handler())
		return listens(t, info), s
	},
	"a listener of one's own and NewServer": func(t *testing.T, tr *rafthttp.Transport, info transport.TLSInfo) (net.Listener, *http.Server) {
		cfg, err := info.ServerConfig()
		require.NoError(t, err)
		info.ConfigureCRLVerification(cfg)
		plain, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		return tls.NewListener(plain, cfg), rafthttp.NewServer(tr.Handler())
	},
}

func listens(t *testing.T, info transport.TLSInfo) net.Listener {
	t.Helper()
	ln, err := rafthttp.NewListener(url.URL{Scheme: "https", Host: "127.0.0.1:0"}, &info)
	require.NoError(t, err)
	return ln
}

func guard(t *testing.T, way string, info transport.TLSInfo) *guarded {
	t.Helper()
	logs, lines := testmember.Logged(zap.NewAtomicLevelAt(zap.InfoLevel))
	tr := &rafthttp.Transport{ID: 1, ClusterID: testmember.ClusterID, Raft: &testmember.Recorder{}}
	logs(tr)
	ln, server := guards[way](t, tr, info)
	require.NoError(t, tr.Start())
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(ln)
	}()
	g := &guarded{addr: ln.Addr().String(), lines: lines, end: func() {
		_ = server.Shutdown(context.Background())
		<-served
		tr.Stop()
	}}
	t.Cleanup(g.end)
	return g
}

// TestRefusedHandshakesAreLogged: the end that refuses says whom and why, once for
// each address and reason, however often; checks of health are not refused.
func TestRefusedHandshakesAreLogged(t *testing.T) { //nolint:funlen // a table
	ca, other := testtls.NewAuthority(t), testtls.NewAuthority(t)
	info := ca.Member(t, 1)
	s := &testtls.Network{T: t, Dir: ca.Dir}
	info.CRLFile = s.File(1, "crl")
	here := []net.IP{net.IPv4(127, 0, 0, 1)}
	clients := []struct {
		name   string
		client func() *tls.Config // nil: speaks no TLS
		says   []string
		reason string
		ours   bool // checked by NewListener only
	}{
		{"another authority", func() *tls.Config { return clientOf(t, other, "client", &x509.Certificate{IPAddresses: here}) },
			[]string{"certificate signed by unknown authority"}, "unknown authority", false},
		{"ended", func() *tls.Config {
			cfg := clientOf(t, ca, "client", &x509.Certificate{IPAddresses: here})
			ca.SignFor(t, "client", &x509.Certificate{Subject: pkix.Name{CommonName: "client"}, IPAddresses: here, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, -time.Minute)
			return cfg
		}, []string{"certificate has expired or is not yet valid"}, "expired", false},
		{"revoked", func() *tls.Config {
			c := &x509.Certificate{IPAddresses: here}
			cfg := clientOf(t, ca, "client", c)
			s.Revoke(1, ca, c)
			return cfg
		}, []string{"revoked"}, "revoked", false},
		{"another address", func() *tls.Config {
			return clientOf(t, ca, "client", &x509.Certificate{IPAddresses: []net.IP{net.IPv4(10, 9, 8, 7)}})
		}, []string{"certificate of 127.0.0.1 is for [10.9.8.7]"}, "wrong address", true},
		{"no certificate", func() *tls.Config { return &tls.Config{} }, []string{"didn't provide a certificate"}, "no certificate", false},
		{"one that refuses us", func() *tls.Config {
			cfg := clientOf(t, ca, "client", &x509.Certificate{IPAddresses: here})
			cfg.RootCAs = x509.NewCertPool()
			return cfg
		}, []string{"remote error: tls: "}, "refused by the client", false},
		{"plain HTTP", func() *tls.Config { return nil }, nil, "no TLS", false},
	}
	for way := range guards {
		t.Run(way, func(t *testing.T) {
			s.Revoke(1, ca)
			g := guard(t, way, info)
			var want []string
			for _, c := range clients {
				if c.ours && way == "a listener of one's own and NewServer" {
					continue
				}
				cfg := c.client()
				if cfg != nil {
					cfg.InsecureSkipVerify = c.name != "one that refuses us"
				}
				var from string
				for range 5 {
					from = shakes(t, g.addr, cfg)
				}
				want = append(want, c.reason)
				testmember.Eventually(t, func() bool { return len(g.failures()) == len(want) })
				line := g.failures()[len(want)-1].ContextMap()
				host, _, err := net.SplitHostPort(line["remote-addr"].(string))
				require.NoError(t, err)
				require.Equal(t, from, host)
				for _, text := range c.says {
					require.Contains(t, line["error"], text, c.name)
				}
				require.Equal(t, c.reason, line["reason"], "%s: %v", c.name, line)
				if c.reason == "expired" && !strings.HasPrefix(way, "a listener") {
					require.Regexp(t, `^"CN=client", serial [0-9a-f]+$`, line["certificate"])
				}
			}
			// Checks of health: nothing is said, and then the end, in both ways.
			for range 5 {
				conn, err := net.Dial("tcp", g.addr)
				require.NoError(t, err)
				require.NoError(t, conn.Close())
				conn, err = net.Dial("tcp", g.addr)
				require.NoError(t, err)
				require.NoError(t, conn.(*net.TCPConn).SetLinger(0))
				require.NoError(t, conn.Close())
			}
			require.NoError(t, errorOf(clientOf(t, ca, "good", &x509.Certificate{IPAddresses: here}), g.addr))
			g.end()
			var got []string
			for _, line := range g.failures() {
				got = append(got, line.ContextMap()["reason"].(string))
			}
			require.Equal(t, want, got)
		})
	}
}

// shakes hands with a server until that ends the connection, and returns from
// which address.
func shakes(t *testing.T, addr string, cfg *tls.Config) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer c.Close()
	host, _, err := net.SplitHostPort(c.LocalAddr().String())
	require.NoError(t, err)
	if cfg != nil {
		c = tls.Client(c, cfg)
	}
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	_, _ = io.Copy(io.Discard, c)
	return host
}

// errorOf returns what a probe with this configuration fails with.
func errorOf(cfg *tls.Config, addr string) error {
	tr := &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: tr}).Get("https://" + addr + rafthttp.ProbingPrefix)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return errors.Join(err, resp.Body.Close())
}

// TestSilentClientsAreNotLogged: one that only connects is cut without a word.
func TestSilentClientsAreNotLogged(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		ca := testtls.NewAuthority(t) // of the bubble's time
		core, lines := observer.New(zap.InfoLevel)
		info := ca.Member(t, 1)
		info.Logger = zap.New(core)
		n := testmember.NewNetwork()
		ln := tlsListener(t, n, info, nil)
		greets(t, ln)
		require.Equal(t, 5*time.Second, closedAfter(dialServer(t, n)), "silent")
		half := dialServer(t, n)
		_, err := io.WriteString(half, "\x16\x03\x01\x01")
		require.NoError(t, err)
		require.Equal(t, 5*time.Second, closedAfter(half), "half a head")
		dialServer(t, n)
		synctest.Wait()
		require.NoError(t, ln.Close()) // which ends the third
		require.Empty(t, lines.All())
	})
}

// TestLinesOfHandshakesAreBounded by time, and all together.
func TestLinesOfHandshakesAreBounded(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		ca := testtls.NewAuthority(t) // of the bubble's time
		core, lines := observer.New(zap.InfoLevel)
		info := ca.Member(t, 1)
		info.Logger = zap.New(core)
		n := testmember.NewNetwork()
		greets(t, tlsListener(t, n, info, nil))
		fail := func(host string) {
			c, err := n.Host(host).DialContext(t.Context(), "tcp", "server:443")
			require.NoError(t, err)
			defer c.Close()
			_, err = io.Copy(io.Discard, tls.Client(c, &tls.Config{InsecureSkipVerify: true}))
			require.Error(t, err)
			synctest.Wait()
		}
		start := time.Now()
		for range 3 {
			for range 10 {
				fail("a")
			}
			require.Equal(t, 1+int(time.Since(start)/time.Minute), lines.Len())
			time.Sleep(time.Minute)
		}
		require.EqualValues(t, 21, lines.All()[2].ContextMap()["failed-total"])
		for i := range 200 {
			fail(fmt.Sprint("b", i))
		}
		require.Equal(t, 3+64, lines.Len(), "in a minute")

		// Nothing that a stranger sends makes a long line.
		time.Sleep(time.Minute)
		names := make([]string, 500)
		for i := range names {
			names[i] = strings.Repeat("x", 60)
		}
		cfg := clientOf(t, testtls.NewAuthority(t), "long", &x509.Certificate{DNSNames: names, IsCA: true})
		cfg.InsecureSkipVerify = true
		before := lines.Len()
		c := tls.Client(dialServer(t, n), cfg)
		_, err := io.Copy(io.Discard, c)
		require.Error(t, err)
		synctest.Wait()
		require.Equal(t, before+1, lines.Len())
		require.Less(t, len(fmt.Sprint(lines.All()[before].ContextMap())), 1024)
	})
}

// TestTooManyHandshakesAreLogged: the other end does not learn why it is cut.
func TestTooManyHandshakesAreLogged(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		ca := testtls.NewAuthority(t) // of the bubble's time
		core, lines := observer.New(zap.InfoLevel)
		info := ca.Member(t, 1)
		info.Logger = zap.New(core)
		n := testmember.NewNetwork()
		greets(t, tlsListener(t, n, info, nil))
		for range 32 {
			dialServer(t, n)
		}
		synctest.Wait()
		require.Empty(t, lines.All())
		for range 3 {
			require.Zero(t, closedAfter(dialServer(t, n)))
		}
		synctest.Wait()
		require.Len(t, lines.All(), 1)
		line := lines.All()[0].ContextMap()
		require.Contains(t, line["error"], "too many")
		require.Equal(t, "too many", line["reason"])
		require.Contains(t, line["remote-addr"], "client:")
	})
}

// TestHandshakeErrorsOfPeers: the member that dials knows whom, so its status says
// why, whichever end refused.
func TestHandshakeErrorsOfPeers(t *testing.T) {
	ca, other := testtls.NewAuthority(t), testtls.NewAuthority(t)
	foreign := other.Member(t, 3)
	foreign.TrustedCAFile = ca.File("ca.pem") // accepts the others, who do not accept it
	a, b := testtls.Start(t, "https", 1, ca.Member(t, 1), nil), testtls.Start(t, "https", 2, foreign, nil)
	a.AddPeer(2, []string{b.URL})
	b.AddPeer(1, []string{a.URL})
	for range 20 {
		for m, says := range map[*testmember.Member]string{a: "x509: certificate signed by unknown authority", b: "remote error: tls: unknown certificate authority"} {
			testmember.Eventually(t, func() bool { return strings.Contains(testmember.PeerStatus(t, m, 3-m.ID).LastError, says) })
		}
	}
}

// TestRevokedClientInStatus: so does that of the member that cuts a stream which
// the other one dialled.
func TestRevokedClientInStatus(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		ca := testtls.NewAuthority(t)
		s := testtls.NewNetwork(t, testmember.NewNetwork(), ca.Dir)
		var certs []*x509.Certificate
		for id := range types.ID(2) {
			certs = append(certs, s.Issue(ca, id+1, time.Hour))
			s.Trust(id+1, ca)
			s.Revoke(id+1, ca)
		}
		m := s.Start(1, func(tr *rafthttp.Transport) { tr.DialRetryFrequency = 0.001 }) // dials once
		m.AddPeer(2, []string{"https://nowhere:1"})
		info := s.Info(2)
		cfg, err := info.ClientConfig()
		require.NoError(t, err)
		testmember.DialStream(t, func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := s.Net.Host(testmember.HostOf(2)).DialContext(ctx, network, addr)
			cfg.ServerName = testmember.HostOf(1)
			return tls.Client(c, cfg), err
		}, m, "message", 2)
		time.Sleep(recheck)
		require.True(t, testmember.LaneOf(m, 2, "message").Up)
		require.NotContains(t, testmember.PeerStatus(t, m, 2).LastError, "revoked")
		s.Revoke(1, ca, certs[1])
		time.Sleep(recheck)
		require.False(t, testmember.LaneOf(m, 2, "message").Up)
		require.Contains(t, testmember.PeerStatus(t, m, 2).LastError, "revoked")
	})
}
