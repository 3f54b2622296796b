package server_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/client"
	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/server"
)

const patience = 20 * time.Second

// cluster is members that run in the test's process.
type cluster struct {
	t       testing.TB
	configs map[uint64]server.Config
	running map[uint64]*server.Server
}

// asyncStorageWrites has members run with them; by default, those with even ids do.
func asyncStorageWrites(cfg *server.Config) { cfg.AsyncStorageWrites = true }

// newCluster founds a cluster of n members and waits for a leader.
func newCluster(t testing.TB, n int, change ...func(*server.Config)) *cluster {
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
	c.found()
	c.awaitLeader()
	return c
}

// found starts all members at once: they wait for each other.
func (c *cluster) found() {
	c.t.Helper()
	type started struct {
		s   *server.Server
		err error
	}
	results := make(chan started)
	for _, cfg := range c.configs {
		go func() {
			s, err := server.Start(c.t.Context(), cfg)
			results <- started{s, err}
		}()
	}
	var errs error
	for range c.configs {
		if r := <-results; r.err != nil {
			errs = errors.Join(errs, r.err)
		} else {
			c.t.Cleanup(r.s.Kill)
			c.running[r.s.Status().ID] = r.s
		}
	}
	require.NoError(c.t, errs)
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

		AsyncStorageWrites: id%2 == 0,
	}
}

// givenPorts has the addresses that freeAddress has returned.
var givenPorts sync.Map

// freeAddress finds a port below those that the system gives to outgoing
// connections: one of these would take it while the member is down. No two members
// of this process get the same one, also those that are not started yet.
func freeAddress(t testing.TB) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 15000+rand.IntN(15000)))
		if err != nil {
			continue
		}
		defer l.Close()
		if _, given := givenPorts.LoadOrStore(l.Addr().String(), true); !given {
			return l.Addr().String()
		}
	}
	require.Fail(t, "no free port")
	return ""
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

func put(t testing.TB, c *client.Client, key, value string) {
	t.Helper()
	_, err := c.Put(t.Context(), key, []byte(value))
	require.NoError(t, err)
}

func requireValue(t testing.TB, c *client.Client, key, want string) {
	t.Helper()
	v, err := c.Get(t.Context(), key, false)
	require.NoError(t, err)
	require.Equal(t, want, string(v))
}
