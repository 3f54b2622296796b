package rafthttp_test

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

const (
	readTimeout  = rafthttp.DefaultConnReadTimeout
	writeTimeout = rafthttp.DefaultConnWriteTimeout
)

// overSockets has all tests on a network in memory use one whose connections are like sockets.
var overSockets = flag.Bool("oversockets", false, "run tests on networks in memory over sockets of theirs, with buffers of 64 KiB")

// newMemnet returns a network in memory for a test of the transport.
func newMemnet(options ...memnet.Option) *memnet.Network {
	if *overSockets {
		options = append(options, memnet.WithSockets(64<<10, 64<<10))
	}
	return memnet.New(options...)
}

// simulate runs a test body in a bubble, where time passes in no time, on a
// network in memory.
func simulate(t *testing.T, body func(t *testing.T, n *memnet.Network)) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) { body(t, newMemnet()) })
}

// hostOf is the host of a simulated member.
func hostOf(id types.ID) string { return "m" + id.String() }

func urlOf(id types.ID) string { return "http://" + hostOf(id) + ":2380" }

// startSimulated runs a member on a host of its own.
func startSimulated(t *testing.T, n *memnet.Network, id types.ID, tune func(*rafthttp.Transport)) *member {
	t.Helper()
	ln, err := n.Host(hostOf(id)).Listen("2380")
	require.NoError(t, err)
	return startMemberOn(t, ln, id, func(tr *rafthttp.Transport) {
		tr.DialContext = n.Host(hostOf(id)).DialContext
		if tune != nil {
			tune(tr)
		}
	})
}

// within waits for cond, inside a bubble.
func within(t *testing.T, d time.Duration, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(d); ; time.Sleep(time.Millisecond) {
		if cond() {
			return
		}
		if !time.Now().Before(deadline) {
			require.FailNow(t, "did not happen", "within %v", d)
		}
	}
}

// always has cond hold for d, inside a bubble.
func always(t *testing.T, d time.Duration, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(d); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		require.True(t, cond())
	}
}

// soon has f return in no time, inside a bubble.
func soon(t *testing.T, f func()) {
	t.Helper()
	start, done := time.Now(), make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
		require.Zero(t, time.Since(start), "it waited")
	case <-time.After(time.Hour):
		require.FailNow(t, "it blocks")
	}
}

type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// client is the other end of one stream of a member, operated by hand.
type client struct {
	net.Conn
	body io.Reader
}

// dialStream asks m for a stream as a member would, and reads the head of the answer.
func dialStream(t testing.TB, dial dialFunc, m *member, kind string, from types.ID) *client {
	t.Helper()
	c, status := requestStream(t, dial, m, kind, from)
	require.Equal(t, http.StatusOK, status)
	return c
}

func requestStream(t testing.TB, dial dialFunc, m *member, kind string, from types.ID) (*client, int) {
	t.Helper()
	u := types.MustNewURLs([]string{m.url})[0]
	conn, err := dial(t.Context(), "tcp", u.Host)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	_, err = fmt.Fprintf(conn, "GET %s/%s/%s HTTP/1.1\r\nHost: x\r\nX-Server-From: %s\r\nX-Server-Version: 3.7.0\r\n"+
		"X-Min-Cluster-Version: 3.0.0\r\nX-Etcd-Cluster-ID: %s\r\nX-Raft-To: %s\r\n\r\n",
		rafthttp.RaftStreamPrefix, kind, from, from, testCluster, m.ID)
	require.NoError(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	return &client{conn, resp.Body}, resp.StatusCode
}

// dialLoopback dials for real.
func dialLoopback(ctx context.Context, network, addr string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, addr)
}

// read decodes what the stream brings until it ends, without link heartbeats.
func (c *client) read(kind string, to, from types.ID) (ms []*raftpb.Message, err error) {
	dec := wire.NewMessageDecoder(wire.NewReader(c.body), wire.Limits{})
	if kind == "msgapp" {
		dec = wire.NewMsgAppV2Decoder(wire.NewReader(c.body), uint64(to), uint64(from), wire.Limits{})
	}
	for {
		m, err := dec.Decode()
		if err != nil {
			return ms, err
		}
		if m != nil {
			ms = append(ms, m)
		}
	}
}

// ended waits for the end of the stream and returns when it came.
func (c *client) ended(t *testing.T) time.Time {
	t.Helper()
	_, err := io.Copy(io.Discard, c.body)
	var timeout net.Error
	if err != nil {
		require.NotErrorAs(t, err, &timeout)
	}
	return time.Now()
}

// refuse is the address of a peer where nobody listens.
const refuse = "http://127.0.0.1:1"

// silentHost makes a host that exists and refuses connections.
func silentHost(n *memnet.Network, id types.ID) []string {
	n.Host(hostOf(id))
	return []string{urlOf(id)}
}
