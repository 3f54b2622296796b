package delivery_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/internal/testtls"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// hidden is a connection whose type says nothing of what is below it.
type hidden struct{ net.Conn }

// hidingListener hides the types of its connections.
type hidingListener struct{ net.Listener }

func (l hidingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return hidden{c}, nil
}

// startHidden runs a member that knows nothing of the TLS that its listener speaks.
func startHidden(t *testing.T, n *memnet.Network, id types.ID, tune func(*rafthttp.Transport)) *testmember.Member {
	t.Helper()
	ca := testtls.NewAuthority(t)
	s := testtls.NewNetwork(t, n, ca.Dir)
	s.Issue(ca, id, time.Hour)
	pair, err := tls.LoadX509KeyPair(s.File(id, "pem"), s.File(id, "key"))
	require.NoError(t, err)
	ln, err := n.Host(testmember.HostOf(id)).Listen("2380")
	require.NoError(t, err)
	ln = hidingListener{tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{pair}})}
	return testmember.StartAt(t, ln, testmember.URLOf(id), id, testmember.Tuned(func(tr *rafthttp.Transport) {
		tr.DialContext = n.Host(testmember.HostOf(id)).DialContext
	}, tune))
}

// dialTLS dials a member of startHidden.
func dialTLS(n *memnet.Network, from types.ID) testmember.DialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := n.Host(testmember.HostOf(from)).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return tls.Client(c, &tls.Config{InsecureSkipVerify: true}), nil
	}
}

// closed is how long a connection may take to be closed.
const closed = 200 * time.Millisecond

// TestStuckStreamOfHiddenTLS: a stream whose client does not read, over TLS that nobody sees, is closed as soon as any other: it
// does not wait for the end of TLS.
func TestStuckStreamOfHiddenTLS(t *testing.T) {
	stuck := func(t *testing.T, n *memnet.Network) *testmember.Member {
		a := startHidden(t, n, 1, func(tr *rafthttp.Transport) { tr.WriteTimeout = time.Second })
		for id := types.ID(2); id < 5; id++ {
			a.AddPeer(id, testmember.SilentHost(n, id))
			for _, kind := range []string{"message", "msgapp"} {
				testmember.DialStream(t, dialTLS(n, id), a, kind, id)
			}
			testmember.WaitStreams(t, a, id)
			synctest.Wait()
			a.Send([]*raftpb.Message{testmember.MsgApp(id, 1, 0, make([]byte, 1<<20))})
		}
		return a
	}
	t.Run("dialled anew", func(t *testing.T) {
		testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
			a := stuck(t, n)
			time.Sleep(time.Second)
			c := testmember.DialStream(t, dialTLS(n, 2), a, "msgapp", 2)
			go func() { _, _ = c.ReadMessages("msgapp", 2, 1) }()
			testmember.WaitStreams(t, a, 2)
			a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, 1, nil)})
			testmember.Within(t, closed, func() bool { return testmember.LaneOf(a, 2, "msgapp").Messages == 1 })
		})
	})
	for end, f := range map[string]func(*testmember.Member){"Stop": (*testmember.Member).Stop, "RemovePeer": func(m *testmember.Member) { m.RemovePeer(2); m.Stop() }} {
		t.Run(end, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				a := stuck(t, n)
				time.Sleep(time.Second) // its write timeout has just passed
				began := time.Now()
				f(a)
				require.LessOrEqual(t, time.Since(began), closed)
			})
		})
	}
}

// TestStuckDialedConn: a connection that was dialled is closed soon as well, whether TLS is seen or not.
func TestStuckDialedConn(t *testing.T) {
	for name, wrap := range map[string]func(net.Conn) net.Conn{
		"seen":   func(c net.Conn) net.Conn { return c },
		"hidden": func(c net.Conn) net.Conn { return hidden{c} },
	} {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				ca := testtls.NewAuthority(t)
				s := testtls.NewNetwork(t, n, ca.Dir)
				s.Issue(ca, 2, time.Hour)
				pair, err := tls.LoadX509KeyPair(s.File(2, "pem"), s.File(2, "key"))
				require.NoError(t, err)
				ln, err := n.Host("m2").Listen("2380")
				require.NoError(t, err)
				defer ln.Close()
				go func() {
					for c, err := ln.Accept(); err == nil; c, err = ln.Accept() {
						_ = tls.Server(c, &tls.Config{Certificates: []tls.Certificate{pair}}).Handshake() // and reads nothing behind it
					}
				}()
				for _, end := range []string{"Close", "cut"} {
					c, err := dialTLS(n, 1)(t.Context(), "tcp", "m2:2380")
					require.NoError(t, err)
					require.NoError(t, c.SetWriteDeadline(time.Now().Add(time.Second)))
					_, err = c.Write(make([]byte, 1<<20))
					require.ErrorIs(t, err, os.ErrDeadlineExceeded)
					kept, cut := testmember.KeptConn(wrap(c))
					began := time.Now()
					if end == "cut" {
						cut(io.EOF)
					} else {
						_ = kept.Close()
					}
					require.LessOrEqual(t, time.Since(began), closed)
				}
			})
		})
	}
}
