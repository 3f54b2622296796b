package rafthttp_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/url"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/conn"
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
func startHidden(t *testing.T, n *memnet.Network, id types.ID, tune func(*rafthttp.Transport)) *member {
	t.Helper()
	ca := newAuthority(t)
	s := &secured{t, n, ca.dir}
	s.issue(ca, id, time.Hour)
	pair, err := tls.LoadX509KeyPair(s.file(id, "pem"), s.file(id, "key"))
	require.NoError(t, err)
	ln, err := n.Host(hostOf(id)).Listen("2380")
	require.NoError(t, err)
	ln = hidingListener{tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{pair}})}
	return startMemberAt(t, ln, urlOf(id), id, tuned(func(tr *rafthttp.Transport) {
		tr.DialContext = n.Host(hostOf(id)).DialContext
	}, tune))
}

// dialTLS dials a member of startHidden.
func dialTLS(n *memnet.Network, from types.ID) dialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := n.Host(hostOf(from)).DialContext(ctx, network, addr)
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
	stuck := func(t *testing.T, n *memnet.Network) *member {
		a := startHidden(t, n, 1, func(tr *rafthttp.Transport) { tr.WriteTimeout = time.Second })
		for id := types.ID(2); id < 5; id++ {
			a.AddPeer(id, silentHost(n, id))
			for _, kind := range []string{"message", "msgapp"} {
				dialStream(t, dialTLS(n, id), a, kind, id)
			}
			waitStreams(t, a, id)
			synctest.Wait()
			a.Send([]*raftpb.Message{msgApp(id, 1, 0, make([]byte, 1<<20))})
		}
		return a
	}
	t.Run("dialled anew", func(t *testing.T) {
		simulate(t, func(t *testing.T, n *memnet.Network) {
			a := stuck(t, n)
			time.Sleep(time.Second)
			c := dialStream(t, dialTLS(n, 2), a, "msgapp", 2)
			go func() { _, _ = c.read("msgapp", 2, 1) }()
			waitStreams(t, a, 2)
			a.Send([]*raftpb.Message{msgApp(2, 1, 1, nil)})
			within(t, closed, func() bool { return laneOf(a, 2, "msgapp").Messages == 1 })
		})
	})
	for end, f := range map[string]func(*member){"Stop": (*member).Stop, "RemovePeer": func(m *member) { m.RemovePeer(2); m.Stop() }} {
		t.Run(end, func(t *testing.T) {
			simulate(t, func(t *testing.T, n *memnet.Network) {
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
			simulate(t, func(t *testing.T, n *memnet.Network) {
				ca := newAuthority(t)
				s := &secured{t, n, ca.dir}
				s.issue(ca, 2, time.Hour)
				pair, err := tls.LoadX509KeyPair(s.file(2, "pem"), s.file(2, "key"))
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
					kept, cut := keptConn(wrap(c))
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

// keptConn is a connection that is validated again while it is up, and what cuts it.
func keptConn(c net.Conn) (kept net.Conn, cut func(cause error)) {
	d := &conn.Dialer{
		Dial:    func(context.Context, string, string) (net.Conn, error) { return c, nil },
		Timeout: time.Minute, Verify: func(string, *tls.ConnectionState) error { return nil },
	}
	kept, err := d.Connect(context.Background(), url.URL{Scheme: "http"})
	if err != nil {
		panic(err)
	}
	return kept, kept.(*conn.Dialed).Cut
}
