package server_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/api"
	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/server"
)

// loseFolder ends a founder of three, whose folder is lost then, and returns it and the others. All know it.
func loseFolder(t *testing.T) (c *cluster, lost uint64, others []uint64) {
	c = newCluster(t, 3)
	put(t, c.client(), "k", "v")
	lost = c.awaitLeader()
	for id, s := range c.running {
		if id != lost {
			others = append(others, id)
		}
		c.await("the client URLs", func() bool {
			for _, m := range s.Status().Members {
				if m.ClientURL == "" {
					return false
				}
			}
			return true
		})
	}
	c.kill(lost)
	require.NoError(t, os.RemoveAll(c.configs[lost].DataDir)) // a volume that is not mounted, say
	return c, lost, others
}

// requireLost checks that a member with an empty folder does not found its cluster again.
func (c *cluster) requireLost(lost uint64) {
	c.t.Helper()
	for range 2 {
		_, err := server.Start(c.t.Context(), c.configs[lost])
		require.ErrorContains(c.t, err, fmt.Sprintf("knows member %d from an earlier life", lost))
	}
}

// A founder whose folder is gone is started again by whatever starts it, with the command line that it always has. It must
// not found the cluster a second time under its old id: it has forgotten what it acknowledged.
func TestFounderLosesItsFolder(t *testing.T) {
	c, lost, others := loseFolder(t)
	c.requireLost(lost)

	// One that runs is enough.
	c.kill(others[0])
	c.requireLost(lost)

	// It waits for them, since together with one that has not heard of what it acknowledged it would be a majority.
	c.kill(others[1])
	refused := make(chan error)
	go func() {
		_, err := server.Start(t.Context(), c.configs[lost])
		refused <- err
	}()
	c.start(others[1])
	require.ErrorContains(t, <-refused, fmt.Sprintf("member %d knows member %d from an earlier life", others[1], lost))

	c.kill(others[1])
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	_, err := server.Start(ctx, c.configs[lost])
	require.ErrorContains(t, err, "no answer from the members")

	// It comes back under a new id.
	c.start(others[0])
	c.start(others[1])
	_, err = c.client(others...).RemoveMember(t.Context(), lost)
	require.NoError(t, err)
	_, err = server.Start(t.Context(), c.configs[lost])
	require.ErrorIs(t, err, server.ErrRemoved)
	cfg := c.config(4)
	cfg.PeerURL, cfg.Join = c.configs[lost].PeerURL, c.configs[others[0]].ClientURL
	c.configs[4] = cfg
	c.start(4)
	requireValue(t, c.client(4), "k", "v")
}

// A founder that is started first when the others have founded, since it died before it had anything, is taken in. So is one
// that dies after that, and has its folder.
func TestLateFounder(t *testing.T) {
	c := &cluster{t: t, configs: map[uint64]server.Config{}, running: map[uint64]*server.Server{}}
	founders := map[uint64]string{}
	for id := uint64(1); id <= 3; id++ {
		cfg := c.config(id)
		founders[id], cfg.Bootstrap = cfg.PeerURL, founders
		c.configs[id] = cfg
	}
	late := c.configs[3]
	delete(c.configs, 3)
	l, err := net.Listen("tcp", strings.TrimPrefix(late.PeerURL, "http://"))
	require.NoError(t, err)
	asked := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/membership" {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte(`{"members":null}`))
	})}
	go func() { _ = asked.Serve(l) }()
	c.found()
	require.NoError(t, asked.Close())
	c.awaitLeader()
	put(t, c.client(), "k", "v")

	c.configs[3] = late
	c.start(3)
	requireValue(t, c.client(3), "k", "v")
	c.kill(3)
	c.start(3)
	requireValue(t, c.client(3), "k", "v")
}

// Those that found a cluster have a URL each, as those that join it later. Else raft counts a member that nobody has: the change
// that adds it is refused when it is applied, and raft has had it since StartNode, or has not, after a restart.
func TestFoundersWithOneURL(t *testing.T) {
	c := &cluster{t: t}
	cfg, two := c.config(1), c.config(2)
	cfg.Bootstrap = map[uint64]string{1: cfg.PeerURL, 2: two.PeerURL, 3: two.PeerURL}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, err := server.Start(ctx, cfg)
	require.ErrorContains(t, err, "--cluster: member 3: ")
	require.ErrorIs(t, err, api.ErrMemberExists)
}

// Later starts ignore --cluster and --join, whatever they say: a founder that moves is started with its old command line and
// a new URL.
func TestFounderMovesWithItsOldCommandLine(t *testing.T) {
	c := newCluster(t, 3)
	id := c.follower()
	c.kill(id)
	cfg := c.configs[id]
	cfg.PeerURL = "http://" + freeAddress(t)
	cfg.Join = "nonsense"
	c.configs[id] = cfg
	c.start(id)
	put(t, c.client(id), "k", "v")
}

// A cluster that is founded again at its old addresses is another one, so members of the old one that come back with their
// folders are none of it.
func TestFoundedAgain(t *testing.T) {
	c := newCluster(t, 3)
	put(t, c.client(), "k", "old")
	before := c.clusterID()
	for id := range c.running {
		c.kill(id)
		require.NoError(t, os.RemoveAll(c.configs[id].DataDir))
	}
	c.found()
	c.awaitLeader()
	put(t, c.client(), "k", "new")
	require.NotEqual(t, before, c.clusterID())
}

// clusterID returns the one that all members have.
func (c *cluster) clusterID() (clusterID uint64) {
	c.t.Helper()
	for _, s := range c.running {
		if clusterID == 0 {
			clusterID = s.Status().ClusterID
		}
		require.Equal(c.t, clusterID, s.Status().ClusterID)
	}
	return clusterID
}

// The first of the founders draws the number of the founding, unless another one has it already; the others wait for it. A
// cluster with other founders has another id all the same: their logs do not begin alike.
func TestFoundersAgreeOnANumber(t *testing.T) {
	founder := func(answer func() string) (peerURL string) {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/membership" {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			_, _ = w.Write([]byte(answer()))
		}))
		t.Cleanup(srv.Close)
		return srv.URL
	}
	with := func(answer string) string { return founder(func() string { return answer }) }
	c := &cluster{t: t, configs: map[uint64]server.Config{}, running: map[uint64]*server.Server{}}
	cfg := c.config(2)
	found := func(others map[uint64]string) uint64 {
		cfg.DataDir = filepath.Join(t.TempDir(), "2")
		others[2], cfg.Bootstrap = cfg.PeerURL, others
		c.configs[2] = cfg
		first := c.start(2).Status().ClusterID
		c.kill(2)
		require.Equal(t, first, c.start(2).Status().ClusterID)
		c.kill(2)
		return first
	}
	none, seven := with(`{"members":null}`), with(`{"members":null,"founding":7}`)
	require.NotEqual(t, found(map[uint64]string{3: none}), found(map[uint64]string{3: none}), "it draws")
	require.Equal(t, found(map[uint64]string{3: seven}), found(map[uint64]string{3: seven}), "it is told")
	require.NotEqual(t, found(map[uint64]string{3: seven}), found(map[uint64]string{3: seven, 4: none}), "other founders")

	var asked atomic.Int64
	drawing := founder(func() string {
		if asked.Add(1) < 5 {
			return `{"members":null}`
		}
		return `{"members":null,"founding":7}`
	})
	require.Equal(t, found(map[uint64]string{1: drawing}), found(map[uint64]string{1: drawing}), "it waits")
}
