package interop_test

import (
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/compat/member"
)

// behindOnePort serves a Mux until the test ends. Members of ours that are started with what it returns are behind it, and
// say so.
func behindOnePort(t *testing.T) (string, func(*member.Config)) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	mux := new(rafthttp.Mux)
	server := rafthttp.NewServer(mux)
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := server.Serve(listener); err != http.ErrServerClosed {
			t.Errorf("the server of the Mux: %v", err)
		}
	}()
	t.Cleanup(func() {
		server.Close()
		<-served
	})
	url := "http://" + listener.Addr().String()
	return url, func(c *member.Config) {
		c.Tune = func(tr *rafthttp.Transport) {
			tr.URLs = types.MustNewURLs([]string{url})
			require.NoError(t, mux.Add(tr))
		}
	}
}

// TestMux: three clusters, in each of which a member of ours has two stock members beside it. Those of ours are behind one
// port, and all members have the same ids in each cluster.
func TestMux(t *testing.T) {
	url, muxed := behindOnePort(t)
	type pair struct{ ours, stock *end }
	var pairs []pair
	for number := range uint64(3) {
		in := func(c *member.Config) { c.Cluster = cluster + number }
		ours := start(t, member.Ours, 1, in, muxed)
		for i, kind := range []member.Kind{member.Stock37, member.Stock36} {
			stock := start(t, kind, uint64(i+2), in)
			stock.AddPeer(1, url)
			ours.AddPeer(stock.ID(), stock.URL())
			awaitStreams(t, ours, stock)
			pairs = append(pairs, pair{ours, stock})
		}
	}
	for i, p := range pairs {
		inBothDirections(t, p.ours, p.stock, func(t *testing.T, from, to *end) {
			for _, other := range pairs {
				other.ours.Reset()
				other.stock.Reset()
			}
			want := []*raftpb.Message{heartbeat(from, to, uint64(10+i)), empty(from, to, uint64(20+i))}
			from.Send(want...)
			requireInOrder(t, from, to, want, await(t, to, len(want)))
			transfer(t, from, to, 1000+p.stock.ID(), 1<<20) // the same indexes in each cluster
			for _, other := range pairs {
				for _, e := range []*end{other.ours, other.stock} {
					e.Recorder.Look(func(s *member.Seen) {
						require.True(t, e == to || len(s.Messages) == 0, "%d of %s was told of it", e.ID(), e.kind)
					})
				}
			}
		})
	}
}
