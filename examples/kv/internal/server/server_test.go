package server_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/api"
	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/server"
	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/storage"
	"github.com/seed-4d73690b/rafthttp/memnet/faultproxy"
)

func TestSingleMember(t *testing.T) {
	c := newCluster(t, 1)
	cl := c.client()
	for _, key := range []string{"a", "a/b", "..", "ä ?#%", "x.y"} {
		put(t, cl, key, "value of "+key)
		requireValue(t, cl, key, "value of "+key)
	}
	_, err := cl.Get(t.Context(), "none", false)
	require.ErrorIs(t, err, api.ErrKeyNotFound)
	_, err = cl.Delete(t.Context(), "a")
	require.NoError(t, err)
	_, err = cl.Get(t.Context(), "a", true)
	require.ErrorIs(t, err, api.ErrKeyNotFound)

	c.kill(1)
	// What it promised to others is on disk too: its vote, in this term.
	disk, err := storage.Open(c.configs[1].DataDir, storage.Options{})
	require.NoError(t, err)
	promised, _, err := disk.Raft().InitialState()
	require.NoError(t, err)
	require.NoError(t, disk.Close())
	require.Equal(t, uint64(1), promised.GetVote())

	c.start(1)
	c.awaitLeader()
	requireValue(t, cl, "a/b", "value of a/b")
	_, err = cl.Get(t.Context(), "a", false)
	require.ErrorIs(t, err, api.ErrKeyNotFound)
}

func TestThreeMembers(t *testing.T) {
	c := newCluster(t, 3)
	for id := range c.running {
		cl := c.client(id)
		for i := range 20 {
			put(t, cl, fmt.Sprintf("%d-%d", id, i), fmt.Sprint(i))
		}
	}
	// A linearizable read sees what was written anywhere else before.
	for i := range 20 {
		put(t, c.client(1), "k", fmt.Sprint(i))
		requireValue(t, c.client(2), "k", fmt.Sprint(i))
		requireValue(t, c.client(3), "k", fmt.Sprint(i))
	}
	c.requireSameData()
	// All have told the group where clients reach them.
	c.await("client URLs", func() bool {
		cluster, err := c.client().Members(t.Context())
		require.NoError(t, err)
		require.Len(t, cluster.Members, 3)
		for _, m := range cluster.Members {
			if m.ClientURL != c.configs[m.ID].ClientURL {
				return false
			}
		}
		return true
	})
}

func TestLeaderCrash(t *testing.T) {
	c := newCluster(t, 3)
	cl := c.client()
	put(t, cl, "before", "1")
	leader := c.awaitLeader()
	c.kill(leader)
	put(t, cl, "without", "2") // the client finds the others
	require.NotEqual(t, leader, c.awaitLeader())
	c.start(leader)
	requireValue(t, c.client(leader), "before", "1")
	requireValue(t, c.client(leader), "without", "2")
	c.requireSameData()
}

func TestWritesWhileLeadersCrash(t *testing.T) {
	c := newCluster(t, 3)
	cl := c.client()
	ctx, stop := context.WithCancel(t.Context())
	written := make(chan []string)
	var first sync.WaitGroup // the first write of each
	for w := range 4 {
		first.Add(1)
		go func() {
			var keys []string
			mine := cl.StartingAt(w)
			for i := 0; ctx.Err() == nil; i++ {
				key := fmt.Sprintf("%d-%d", w, i)
				if _, err := mine.Put(ctx, key, []byte(key)); err == nil {
					if keys = append(keys, key); len(keys) == 1 {
						first.Done()
					}
				}
			}
			written <- keys
		}()
	}
	for range 3 {
		leader := c.awaitLeader()
		c.kill(leader)
		put(t, cl, "probe", fmt.Sprint(leader))
		c.start(leader)
	}
	c.awaitLeader()
	first.Wait() // three crashes may take less time than one write that waits for a leader
	stop()
	for range 4 {
		keys := <-written
		require.NotEmpty(t, keys)
		for _, key := range keys {
			requireValue(t, cl, key, key)
		}
	}
	c.requireSameData()
}

func TestNoMajority(t *testing.T) {
	c := newCluster(t, 3)
	put(t, c.client(), "k", "v")
	lone := c.awaitLeader()
	for id := range c.running {
		if id != lone {
			c.kill(id)
		}
	}
	cl := c.client(lone)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := cl.Put(ctx, "k", []byte("w"))
	require.Error(t, err)
	_, err = cl.Get(ctx, "k", false)
	require.Error(t, err)
	v, err := cl.Get(t.Context(), "k", true)
	require.NoError(t, err)
	require.Equal(t, "v", string(v))
	c.await("the leader to step down", func() bool { return c.running[lone].Status().Leader == 0 })
}

// A write whose proposal went to a leader that is gone need not wait for its
// timeout.
func TestLostProposalFailsEarly(t *testing.T) {
	c := newCluster(t, 3)
	lone := c.follower()
	failed := make(chan string)
	go func() {
		for {
			if code := putOnce(t, c.configs[lone].ClientURL); code != "" {
				failed <- code
				return
			}
		}
	}()
	for id := range c.running {
		if id != lone {
			c.kill(id)
		}
	}
	require.Equal(t, api.ErrLeaderChanged.Code, <-failed)
}

// putOnce writes without trying again, and returns the code of the error.
func putOnce(t *testing.T, clientURL string) string {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, clientURL+"/kv/k", strings.NewReader("v"))
	if err != nil {
		return err.Error()
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	var answer api.Error
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return err.Error()
	}
	return answer.Code
}

func TestGracefulStopHandsOver(t *testing.T) {
	c := newCluster(t, 3)
	put(t, c.client(), "k", "v")
	leader := c.awaitLeader()
	term := c.running[leader].Status().Term
	c.running[leader].Stop(t.Context())
	require.NoError(t, c.running[leader].Err())
	delete(c.running, leader)
	c.awaitLeader() // one that runs, in the next term: nobody had to find out that the old one is gone
	for _, s := range c.running {
		require.Equal(t, term+1, s.Status().Term)
	}
}

func TestStartRefusals(t *testing.T) {
	c := newCluster(t, 1)
	taken := c.configs[1]
	for _, tc := range []struct {
		name   string
		change func(*server.Config)
		want   string
	}{
		{"no id", func(c *server.Config) { c.ID = 0 }, "--id"},
		{"no folder", func(c *server.Config) { c.DataDir = "" }, "--data-dir"},
		{"peer URL without port", func(c *server.Config) { c.PeerURL = "http://localhost" }, "--peer-url"},
		{"client URL of another scheme", func(c *server.Config) { c.ClientURL = "ftp://localhost:1" }, "--client-url"},
		{"neither cluster nor join", func(c *server.Config) { c.Bootstrap = nil }, "--cluster"},
		{"both cluster and join", func(c *server.Config) { c.Join = "http://localhost:1" }, "--join"},
		{"not in the cluster", func(c *server.Config) { c.Bootstrap = map[uint64]string{8: c.PeerURL} }, "--cluster"},
		{"peer port taken", func(c *server.Config) {
			c.PeerURL = taken.PeerURL
			c.Bootstrap = map[uint64]string{7: c.PeerURL}
		}, "listen for peers"},
		{"client port taken", func(c *server.Config) { c.ClientURL = taken.ClientURL }, "listen for clients"},
		{"folder in use", func(c *server.Config) { c.DataDir = taken.DataDir }, "in use"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := c.config(7)
			cfg.Bootstrap = map[uint64]string{7: cfg.PeerURL}
			tc.change(&cfg)
			_, err := server.Start(t.Context(), cfg)
			require.ErrorContains(t, err, tc.want)
		})
	}
	t.Run("folder of another member", func(t *testing.T) {
		c.kill(1)
		cfg := c.config(7)
		cfg.DataDir = taken.DataDir
		cfg.Bootstrap = map[uint64]string{7: cfg.PeerURL}
		_, err := server.Start(t.Context(), cfg)
		require.ErrorContains(t, err, "belongs to member 1")
	})
	t.Run("nobody to join", func(t *testing.T) {
		cfg := c.config(7)
		cfg.Join = "http://" + freeAddress(t)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := server.Start(ctx, cfg)
		require.ErrorContains(t, err, "--join")
	})
}

// A member reaches another one through a proxy of its own, if it is told to.
func TestPeerRoute(t *testing.T) {
	c := newCluster(t, 2)
	proxy, err := faultproxy.Listen("127.0.0.1:0", strings.TrimPrefix(c.configs[2].PeerURL, "http://"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = proxy.Close() })
	c.kill(1)
	cfg := c.configs[1]
	cfg.Routes = map[string]string{cfg.PeerURL: "http://127.0.0.1:1"} // nobody takes it to itself
	c.configs[1] = cfg
	c.start(1)
	put(t, c.client(1), "k", "directly")
	require.Zero(t, proxy.Connections())

	c.kill(1)
	cfg.Routes = map[string]string{c.configs[2].PeerURL: "http://" + proxy.Addr()}
	c.configs[1] = cfg
	c.start(1)
	c.await("connections through the proxy", func() bool { return proxy.Connections() > 0 })
	put(t, c.client(1), "k", "through the proxy")
	requireValue(t, c.client(2), "k", "through the proxy")

	c.kill(1)
	cfg.Routes = map[string]string{"nonsense": "http://" + proxy.Addr()}
	_, err = server.Start(t.Context(), cfg)
	require.ErrorContains(t, err, "--peer-route")
}
