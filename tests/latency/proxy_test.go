package latency_test

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/memnet/rafttest"
)

// proxy is a host of the network that all connections go through: it acknowledges what it has received.
type proxy struct{ host *memnet.Host }

// serve forwards what is dialled at a port of it, which is the name of a member's host.
func (p *proxy) serve(t *testing.T, id uint64) {
	t.Helper()
	ln, err := p.host.Listen(rafttest.Host(id)[1:])
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			to, err := p.host.DialContext(context.Background(), "tcp", rafttest.Host(id)+":2380")
			if err != nil {
				c.Close()
				continue
			}
			go pass(c, to)
			go pass(to, c)
		}
	}()
}

func pass(from, to net.Conn) {
	_, _ = io.Copy(to, from)
	from.Close()
	to.Close()
}

// TestBehindAProxy: where a proxy acknowledges what it has received, as in a service mesh, the line behind it is not called the
// follower's disk, and what is slow may be either.
func TestBehindAProxy(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		const trip = 300 * time.Millisecond
		px := &proxy{}
		p := &pair{script: &script{}}
		p.Cluster = rafttest.New(t, rafttest.Config{Members: 2, Network: []memnet.Option{memnet.WithSockets(256<<10, 256<<10)}, Tune: func(id uint64, tr *rafthttp.Transport) {
			own := tr.DialContext
			tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				return own(ctx, network, "px:"+addr[1:2]) // of m1:2380, for instance
			}
		}})
		px.host = p.Network().Host("px")
		for id := uint64(1); id <= 2; id++ {
			px.serve(t, id)
		}
		p.Network().Link("px", "m2").SetDelay(trip / 2)
		p.Network().Link("m2", "px").SetDelay(trip / 2)
		p.leader = p.Start(1, &script{})
		p.follower = p.Start(2, p.script)
		p.script.t = p.follower.Transport
		time.Sleep(time.Minute)

		p.send(20*time.Second, nil)
		a := p.appends()
		require.Nil(t, a.Slow)
		require.InDelta(t, trip, a.Recent.Wire, float64(trip/10), "%+v", a.Recent)
		require.Less(t, a.Recent.Follower, trip/10)

		p.script.delay.Store(int64(2 * time.Second))
		p.send(5*time.Second, nil)
		a = p.appends()
		require.NotNil(t, a.Slow)
		require.Equal(t, "follower", a.Slow.Part)
		require.Contains(t, a.Slow.Text, "perhaps the wire")
	})
}
