package server_test

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/api"
	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/client"
	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/server"
	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/storage"
)

const patience = 20 * time.Second

// cluster is members that run in the test's process.
type cluster struct {
	t       *testing.T
	configs map[uint64]server.Config
	running map[uint64]*server.Server
}

// newCluster founds a cluster of n members and waits for a leader.
func newCluster(t *testing.T, n int, change ...func(*server.Config)) *cluster {
	t.Helper()
	c := &cluster{t: t, configs: make(map[uint64]server.Config), running: make(map[uint64]*server.Server)}
	bootstrap := make(map[uint64]string)
	for id := uint64(1); id <= uint64(n); id++ {
		cfg := c.config(id)
		for _, f := range change {
			f(&cfg)
		}
		bootstrap[id] = cfg.PeerURL
		cfg.Bootstrap = bootstrap
		c.configs[id] = cfg
	}
	for id := range c.configs {
		c.start(id)
	}
	c.awaitLeader()
	return c
}

func (c *cluster) config(id uint64) server.Config {
	c.t.Helper()
	return server.Config{
		ID:        id,
		DataDir:   filepath.Join(c.t.TempDir(), fmt.Sprint(id)),
		PeerURL:   "http://" + freeAddress(c.t),
		ClientURL: "http://" + freeAddress(c.t),
		Tick:      20 * time.Millisecond,
		Logger:    zaptest.NewLogger(c.t, zaptest.Level(zap.WarnLevel)),
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

func (c *cluster) start(id uint64) *server.Server {
	c.t.Helper()
	s, err := server.Start(c.t.Context(), c.configs[id])
	require.NoError(c.t, err)
	c.t.Cleanup(s.Kill)
	c.running[id] = s
	return s
}

// kill ends a member as a crash would.
func (c *cluster) kill(id uint64) {
	c.running[id].Kill()
	delete(c.running, id)
}

// client returns a client of some members, or of all that run.
func (c *cluster) client(ids ...uint64) *client.Client {
	c.t.Helper()
	if len(ids) == 0 {
		for id := range c.running {
			ids = append(ids, id)
		}
	}
	var urls []string
	for _, id := range ids {
		urls = append(urls, c.configs[id].ClientURL)
	}
	cl, err := client.New(urls...)
	require.NoError(c.t, err)
	c.t.Cleanup(cl.Close)
	return cl
}

// await waits until ok says so.
func (c *cluster) await(what string, ok func() bool) {
	c.t.Helper()
	require.Eventually(c.t, ok, patience, 10*time.Millisecond, what)
}

func (c *cluster) awaitLeader() (leader uint64) {
	c.t.Helper()
	c.await("a leader that all agree on", func() bool {
		leader = 0
		for _, s := range c.running {
			l := s.Status().Leader
			if l == 0 || c.running[l] == nil || leader != 0 && leader != l {
				return false
			}
			leader = l
		}
		return true
	})
	return leader
}

func (c *cluster) follower() uint64 {
	c.t.Helper()
	leader := c.awaitLeader()
	for id := range c.running {
		if id != leader {
			return id
		}
	}
	c.t.Fatal("no follower")
	return 0
}

// requireSameData waits until all members have applied the same entries, and
// compares what came of them.
func (c *cluster) requireSameData() {
	c.t.Helper()
	c.await("the same data everywhere", func() bool {
		var want *string
		var applied uint64
		for id := range c.running {
			d, err := c.client(id).Digest(c.t.Context())
			require.NoError(c.t, err)
			if want == nil {
				want, applied = &d.Hash, d.Applied
			}
			if d.Applied != applied {
				return false
			}
			require.Equal(c.t, *want, d.Hash, "member %d at %d", id, d.Applied)
		}
		return true
	})
}

func put(t *testing.T, c *client.Client, key, value string) {
	t.Helper()
	_, err := c.Put(t.Context(), key, []byte(value))
	require.NoError(t, err)
}

func requireValue(t *testing.T, c *client.Client, key, want string) {
	t.Helper()
	v, err := c.Get(t.Context(), key, false)
	require.NoError(t, err)
	require.Equal(t, want, string(v))
}

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
	for w := range 4 {
		go func() {
			var keys []string
			mine := cl.StartingAt(w)
			for i := 0; ctx.Err() == nil; i++ {
				key := fmt.Sprintf("%d-%d", w, i)
				if _, err := mine.Put(ctx, key, []byte(key)); err == nil {
					keys = append(keys, key)
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

func TestGracefulStopHandsOver(t *testing.T) {
	c := newCluster(t, 3)
	put(t, c.client(), "k", "v")
	leader := c.awaitLeader()
	term := c.running[leader].Status().Term
	c.running[leader].Stop(t.Context())
	require.NoError(t, c.running[leader].Err())
	delete(c.running, leader)
	for _, s := range c.running {
		require.NotEqual(t, leader, s.Status().Leader)
		require.Equal(t, term+1, s.Status().Term)
	}
}

func TestJoinBySnapshotAndRemove(t *testing.T) {
	small := func(cfg *server.Config) { cfg.CompactEntries, cfg.KeepEntries = 50, 10 }
	c := newCluster(t, 3, small)
	cl := c.client()
	for i := range 200 {
		put(t, cl, fmt.Sprint(i), "v")
	}
	cfg := c.config(4)
	small(&cfg)
	cfg.Join = c.configs[c.follower()].ClientURL
	c.configs[4] = cfg
	joined := c.start(4)
	c.await("the new member to become a voter", func() bool {
		for _, m := range joined.Status().Members {
			if m.ID == 4 {
				return !m.Learner && joined.Status().Role == "follower"
			}
		}
		return false
	})
	require.Equal(t, uint64(1), joined.Status().Snapshots.Received)
	requireValue(t, c.client(4), "7", "v")
	c.requireSameData()

	// It restarts from what it has, without joining again.
	c.kill(4)
	put(t, cl, "while away", "v")
	joined = c.start(4)
	requireValue(t, c.client(4), "while away", "v")
	require.Zero(t, joined.Status().Snapshots.Received)

	// Removed, it stops by itself, and stays so.
	_, err := cl.RemoveMember(t.Context(), 4)
	require.NoError(t, err)
	select {
	case <-joined.Done():
	case <-time.After(patience):
		t.Fatal("a removed member goes on")
	}
	require.ErrorIs(t, joined.Err(), server.ErrRemoved)
	delete(c.running, 4)
	_, err = cl.RemoveMember(t.Context(), 4) // once more does no harm
	require.NoError(t, err)
	restarted, err := server.Start(t.Context(), c.configs[4])
	if err == nil { // it did not live to see its removal, and is told
		<-restarted.Done()
		err = restarted.Err()
	}
	require.ErrorIs(t, err, server.ErrRemoved)

	// Its id is used up.
	cfg = c.config(4)
	cfg.Join = c.configs[c.awaitLeader()].ClientURL
	_, err = server.Start(t.Context(), cfg)
	require.ErrorIs(t, err, api.ErrMemberRemoved)
	c.requireSameData()
}

func TestRemoveLeader(t *testing.T) {
	c := newCluster(t, 3)
	leader := c.awaitLeader()
	cluster, err := c.client().RemoveMember(t.Context(), leader)
	require.NoError(t, err)
	require.Len(t, cluster.Members, 2)
	select {
	case <-c.running[leader].Done():
	case <-time.After(patience):
		t.Fatal("a removed leader goes on")
	}
	require.ErrorIs(t, c.running[leader].Err(), server.ErrRemoved)
	delete(c.running, leader)
	put(t, c.client(), "k", "v")
	c.requireSameData()
}

func TestMembershipRefusals(t *testing.T) {
	c := newCluster(t, 1)
	cl := c.client()
	_, err := cl.RemoveMember(t.Context(), 1)
	require.ErrorIs(t, err, api.ErrLastVoter)
	_, err = cl.RemoveMember(t.Context(), 9)
	require.ErrorIs(t, err, api.ErrMemberNotFound)

	for name, tc := range map[string]struct {
		m    storage.Member
		want error
	}{
		"no id":                 {storage.Member{PeerURL: "http://h:1", ClientURL: "http://h:2"}, api.ErrBadRequest},
		"no client URL":         {storage.Member{ID: 2, PeerURL: "http://h:1"}, api.ErrBadRequest},
		"bad peer URL":          {storage.Member{ID: 2, PeerURL: "h:1", ClientURL: "http://h:2"}, api.ErrBadRequest},
		"peer URL of another":   {storage.Member{ID: 2, PeerURL: c.configs[1].PeerURL, ClientURL: "http://h:2"}, api.ErrMemberExists},
		"id of another, voting": {storage.Member{ID: 1, PeerURL: "http://h:1", ClientURL: "http://h:2"}, api.ErrMemberExists},
	} {
		_, err := cl.AddMember(t.Context(), tc.m)
		require.ErrorIs(t, err, tc.want, name)
	}
	put(t, cl, "k", "v") // it is still a group of one
}

func TestMovedMember(t *testing.T) {
	c := newCluster(t, 3)
	id := c.follower()
	c.kill(id)
	cfg := c.configs[id]
	cfg.PeerURL, cfg.ClientURL, cfg.Bootstrap = "http://"+freeAddress(t), "http://"+freeAddress(t), nil
	c.configs[id] = cfg
	c.start(id)
	c.await("the new address everywhere", func() bool {
		for _, s := range c.running {
			for _, m := range s.Status().Members {
				if m.ID == id && (m.PeerURL != cfg.PeerURL || m.ClientURL != cfg.ClientURL) {
					return false
				}
			}
		}
		return true
	})
	put(t, c.client(id), "k", "v")
	c.requireSameData()
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
