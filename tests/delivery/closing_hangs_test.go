package delivery_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/internal/testtls"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// unclosable is a connection whose Close hangs until it is let go.
type unclosable struct {
	net.Conn
	free chan struct{}
}

func (h unclosable) Close() error { <-h.free; return h.Conn.Close() }

// socketLike is an unclosable connection that looks like a socket: a write to it goes on after a deadline.
type socketLike struct{ unclosable }

func (socketLike) SyscallConn() (syscall.RawConn, error) { return nil, errors.ErrUnsupported }

// dialsHanging has a member dial such connections.
func dialsHanging(free chan struct{}) func(*rafthttp.Transport) {
	return func(tr *rafthttp.Transport) {
		dial := tr.DialContext
		tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := dial(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return unclosable{c, free}, nil
		}
	}
}

// stopsSoon stops a member whose connections do not close.
func stopsSoon(t *testing.T, m *testmember.Member, free chan struct{}) {
	t.Helper()
	time.Sleep(time.Second)
	stopped := make(chan struct{})
	began := time.Now()
	var took time.Duration
	go func() {
		defer close(stopped)
		m.Stop()
		took = time.Since(began)
	}()
	select {
	case <-stopped:
	case <-time.After(time.Minute):
	}
	close(free)
	<-stopped
	require.LessOrEqual(t, took, 2*time.Second)
}

// silent is a host that accepts connections and says nothing on them.
func silent(t *testing.T, n *memnet.Network, id types.ID) {
	t.Helper()
	ln, err := n.Host(testmember.HostOf(id)).Listen("2380")
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	go func() {
		for c, err := ln.Accept(); err == nil; c, err = ln.Accept() {
			go func() { _, _ = io.Copy(io.Discard, c); c.Close() }()
		}
	}()
}

// TestStopWhileCloseHangs: Stop returns although no Close of a connection does: what reads or writes it is interrupted.
func TestStopWhileCloseHangs(t *testing.T) {
	for name, use := range map[string]func(a *testmember.Member, url string){
		"streams": func(a *testmember.Member, url string) { a.AddPeer(2, []string{url}) },
		"post": func(a *testmember.Member, url string) {
			a.AddRemote(2, []string{url})
			a.Send(testmember.Heartbeats(1, 2, 1))
		},
		"probe":    func(a *testmember.Member, url string) { a.AddPeer(2, []string{url}); time.Sleep(4 * time.Second) },
		"snapshot": func(a *testmember.Member, url string) { a.AddPeer(2, []string{url}); sendDatabase(a) },
	} {
		for _, scheme := range []string{"http", "https"} {
			t.Run(name+", no answer, "+scheme, func(t *testing.T) {
				testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
					free := make(chan struct{})
					silent(t, n, 2)
					a := testmember.StartSimulated(t, n, 1, dialsHanging(free))
					use(a, scheme+"://m2:2380")
					stopsSoon(t, a, free)
				})
			})
		}
	}
	for _, encrypted := range []bool{false, true} {
		name := map[bool]string{false: "http", true: "https"}[encrypted]
		pair := func(t *testing.T, n *memnet.Network, free chan struct{}) (a, b *testmember.Member) {
			if !encrypted {
				a, b = testmember.StartSimulated(t, n, 1, dialsHanging(free)), testmember.StartSimulated(t, n, 2, nil)
			} else {
				ca := testtls.NewAuthority(t)
				s := testtls.NewNetwork(t, n, ca.Dir)
				for id := types.ID(1); id <= 2; id++ {
					s.Issue(ca, id, time.Hour)
					s.Trust(id, ca)
					s.Revoke(id, ca)
				}
				a, b = s.Start(1, dialsHanging(free)), s.Start(2, nil)
			}
			testmember.Connect(t, a, b)
			return a, b
		}
		t.Run("streams, "+name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				free := make(chan struct{})
				a, _ := pair(t, n, free)
				stopsSoon(t, a, free)
			})
		})
		t.Run("snapshot, "+name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				free := make(chan struct{})
				a, b := pair(t, n, free)
				b.Recorder.OnProcess = func(ctx context.Context, m *raftpb.Message) error {
					if m.GetType() == raftpb.MsgSnap {
						<-ctx.Done()
					}
					return nil
				}
				sendDatabase(a)
				stopsSoon(t, a, free)
			})
		})
	}
}

func sendDatabase(a *testmember.Member) {
	db := &testmember.Database{Reader: bytes.NewReader(make([]byte, 1000))}
	a.SendSnapshot(snap.NewMessage(testmember.MsgSnap(2, 1, 7), db, 1000))
}

// TestStopWhileCloseOfAcceptedHangs is that for connections of a listener, whose other end reads them or does not.
func TestStopWhileCloseOfAcceptedHangs(t *testing.T) {
	for name, wrap := range map[string]func(unclosable) net.Conn{
		"any":    func(c unclosable) net.Conn { return c },
		"socket": func(c unclosable) net.Conn { return socketLike{c} },
	} {
		start := func(t *testing.T, n *memnet.Network, free chan struct{}) *testmember.Member {
			ln, err := n.Host("m1").Listen("2380")
			require.NoError(t, err)
			ln = testmember.WrappingListener{Listener: ln, Wrap: func(c net.Conn) net.Conn { return wrap(unclosable{c, free}) }}
			return testmember.StartAt(t, ln, testmember.URLOf(1), 1, func(tr *rafthttp.Transport) { tr.DialContext = n.Host("m1").DialContext })
		}
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				free := make(chan struct{})
				a := start(t, n, free)
				testmember.Connect(t, a, testmember.StartSimulated(t, n, 2, nil))
				stopsSoon(t, a, free)
			})
		})
		t.Run(name+", stuck", func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				free := make(chan struct{})
				a := start(t, n, free)
				a.AddPeer(2, testmember.SilentHost(n, 2))
				for _, kind := range []string{"message", "msgapp"} {
					testmember.DialStream(t, n.Host("m2").DialContext, a, kind, 2)
				}
				testmember.WaitStreams(t, a, 2)
				a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, 0, make([]byte, 1<<20))})
				stopsSoon(t, a, free)
			})
		})
	}
}
