//go:build linux

package faults_test

import (
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/memnet/faultproxy"
)

// TestMoveToHTTPS moves a cluster of three from http to https by the steps of faq.md, while its members send to each other.
func TestMoveToHTTPS(t *testing.T) {
	t.Parallel()
	s := &scene{T: t}
	ca := newAuthority(s)
	type server struct {
		*player
		http  *faultproxy.Proxy // before the listener without TLS
		https string
	}
	var all []server
	for id := range types.ID(3) {
		// Step 1: a certificate, and a listener for each of the two.
		m := s.transport(id + 1)
		ca.member(m.ID, nil)(m.Transport)
		require.NoError(t, m.Start())
		t.Cleanup(m.Stop)
		srv := rafthttp.NewServer(m.Handler())
		t.Cleanup(func() { srv.Close() })
		listen := func(scheme string) net.Listener {
			ln, err := rafthttp.NewListener(url.URL{Scheme: scheme, Host: "127.0.0.1:0"}, &m.TLSInfo)
			require.NoError(t, err)
			go func() { _ = srv.Serve(ln) }()
			return ln
		}
		proxy, err := faultproxy.Listen("127.0.0.1:0", listen("http").Addr().String())
		require.NoError(t, err)
		m.url = "http://" + proxy.Addr()
		s.all = append(s.all, m)
		all = append(all, server{m, proxy, "https://" + listen("https").Addr().String()})
	}
	others := func(do func(m, other server)) {
		for _, other := range all {
			for _, m := range all {
				if m.ID != other.ID {
					do(m, other)
				}
			}
		}
	}
	others(func(m, other server) { m.AddPeer(other.ID, []string{other.url}) })
	others(func(m, other server) { s.waitActive(m.player, other.ID) })
	others(func(m, other server) { s.keepSending(m.player, other.ID, 100) })

	// Step 2: one member after another.
	for _, moved := range all {
		for _, m := range all {
			if m.ID != moved.ID {
				m.UpdatePeer(moved.ID, []string{moved.https})
			}
		}
		for _, m := range all {
			if m.ID != moved.ID {
				s.eventually(func() bool { return !statusOf(m.Transport, moved.ID).CertificateExpires.IsZero() })
				s.waitActive(m.player, moved.ID)
			}
		}
	}
	others(func(m, other server) {
		plain := func(u string) bool { return !strings.HasPrefix(u, "https://") }
		require.False(t, slices.ContainsFunc(statusOf(m.Transport, other.ID).URLs, plain))
	})

	// Step 3: nobody uses the listeners without TLS, nor misses them.
	for _, m := range all {
		s.eventually(func() bool { return m.http.Connections() == 0 })
		require.NoError(t, m.http.Close())
	}
	others(func(m, other server) {
		before := messages(m.player, other.ID)
		s.eventually(func() bool { return messages(m.player, other.ID) > before+10 })
		s.waitActive(m.player, other.ID)
	})
}

// messages returns how many messages of a peer went to Process.
func messages(m *player, peer types.ID) (n uint64) {
	for _, l := range statusOf(m.Transport, peer).Lanes {
		if l.Name == "append" {
			n = l.Messages
		}
	}
	return n
}
