package security_test

import (
	"context"
	"crypto/x509"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/internal/testtls"
)

// linkLocal is an address that means something on one interface only.
const linkLocal = "fe80::1"

// zoned makes connections from another address than theirs.
type zoned struct {
	net.Listener
	from *net.TCPAddr
}

type zonedConn struct {
	net.Conn
	from net.Addr
}

func (c zonedConn) RemoteAddr() net.Addr { return c.from }

func (l zoned) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return zonedConn{c, l.from}, nil
}

// linkLocalMember returns the files of a member with the link-local address.
func linkLocalMember(t *testing.T, a *testtls.Authority, id types.ID) transport.TLSInfo {
	t.Helper()
	info := a.Member(t, id)
	a.Sign(t, id.String(), &x509.Certificate{
		IPAddresses: []net.IP{net.ParseIP(linkLocal)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	return info
}

// TestZoneOfAnAddress: the zone of an address is the business of one machine, and
// in no certificate. Both ends leave it out when they compare.
func TestZoneOfAnAddress(t *testing.T) {
	ca := testtls.NewAuthority(t)
	start := func(id types.ID, from string) *testmember.Member {
		plain, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		info := linkLocalMember(t, ca, id)
		ln, err := testtls.NewListener(zoned{plain, &net.TCPAddr{IP: net.ParseIP(from), Port: 1, Zone: "eth0"}}, &info)
		require.NoError(t, err)
		_, port, err := net.SplitHostPort(plain.Addr().String())
		require.NoError(t, err)
		return testmember.StartAt(t, ln, "https://["+linkLocal+"%25eth0]:"+port, id, func(tr *rafthttp.Transport) {
			tr.TLSInfo = info
			tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				host, port, err := net.SplitHostPort(addr)
				require.NoError(t, err)
				require.Equal(t, linkLocal+"%eth0", host, "which the system needs")
				return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort("127.0.0.1", port))
			}
		})
	}
	a, b := start(1, linkLocal), start(2, linkLocal)
	testmember.Connect(t, a, b)
	require.Equal(t, []string{b.URL}, a.Status().Peers[0].URLs)
	a.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1), testmember.MsgApp(2, 1, 1, nil), testmember.MsgSnap(2, 1, 1)}) // the last by a post
	testmember.Eventually(t, func() bool { return len(b.Recorder.Received()) == 3 })

	stranger := start(3, "fe80::2") // which its certificate is not for
	stranger.AddPeer(1, []string{a.URL})
	a.AddPeer(3, []string{stranger.URL})
	testmember.Eventually(t, func() bool { return testmember.PeerStatus(t, a, 3).LastError != "" })
	require.True(t, a.ActiveSince(3).IsZero())
}

// TestLinkLocalMembers runs members at a link-local address of this machine, if it
// has one.
func TestLinkLocalMembers(t *testing.T) {
	ip, zone := linkLocalHere(t)
	if zone == "" {
		t.Skip("no interface with a link-local address")
	}
	ca := testtls.NewAuthority(t)
	start := func(id types.ID) *testmember.Member {
		info := ca.Member(t, id)
		ca.Sign(t, id.String(), &x509.Certificate{
			IPAddresses: []net.IP{ip}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		})
		at := func(port string) string { return "https://[" + ip.String() + "%25" + zone + "]:" + port }
		ln, err := rafthttp.NewListener(types.MustNewURLs([]string{at("0")})[0], &info)
		require.NoError(t, err)
		_, port, err := net.SplitHostPort(ln.Addr().String())
		require.NoError(t, err)
		return testmember.StartAt(t, ln, at(port), id, func(tr *rafthttp.Transport) { tr.TLSInfo = info })
	}
	a, b := start(1), start(2)
	testmember.Connect(t, a, b)
	a.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1), testmember.MsgSnap(2, 1, 1)})
	testmember.Eventually(t, func() bool { return len(b.Recorder.Received()) == 2 })
}

func linkLocalHere(t *testing.T) (net.IP, string) {
	t.Helper()
	all, err := net.Interfaces()
	require.NoError(t, err)
	for _, i := range all {
		addrs, err := i.Addrs()
		require.NoError(t, err)
		for _, a := range addrs {
			n, ok := a.(*net.IPNet)
			if !ok || n.IP.To4() != nil || !n.IP.IsLinkLocalUnicast() {
				continue
			}
			if ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: n.IP, Zone: i.Name}); err == nil {
				ln.Close()
				return n.IP, i.Name
			}
		}
	}
	return nil, ""
}
