package rafttest_test

import (
	"crypto/tls"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/memnet/rafttest"
)

// pair starts members 1 and 2, and returns them with what 2 gets, when all streams are up.
func pair(t *testing.T, cfg rafttest.Config) (c *rafttest.Cluster, one, two *rafttest.Member, got *recorder) {
	t.Helper()
	cfg.Members, got = 2, &recorder{}
	c = rafttest.New(t, cfg)
	one, two = c.Start(1, &recorder{}), c.Start(2, got)
	time.Sleep(time.Second)
	require.Equal(t, 1, one.ActivePeers())
	require.Equal(t, 1, two.ActivePeers())
	return c, one, two, got
}

// send sends a message from 1 to 2 and gives it a second.
func send(one *rafttest.Member, index uint64) {
	one.Send([]*raftpb.Message{message(1, index, raftpb.MsgHeartbeatResp)})
	time.Sleep(time.Second)
}

func TestClusterUnderRules(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		tuned := 0
		c, one, _, got := pair(t, rafttest.Config{
			Tune:    func(uint64, *rafthttp.Transport) { tuned++ },
			Network: []memnet.Option{memnet.WithTinyBuffers()},
		})
		require.Equal(t, 2, tuned)
		send(one, 1)
		undo := c.Apply(rafttest.Rule{From: 1, To: 2, Loss: 1})
		send(one, 2)
		undo()
		send(one, 3)
		require.Equal(t, []uint64{1, 3}, got.indices())
		require.Contains(t, c.Network().Transcript(), "message 1->2 MsgHeartbeatResp Term:0 Log:0/2 is lost")
	})
}

func TestEndsOfMembers(t *testing.T) {
	ends := map[string]struct {
		end     func(*rafttest.Member)
		noticed time.Duration
	}{
		"stop":          {(*rafttest.Member).Stop, 0},
		"crash":         {(*rafttest.Member).Crash, 0},
		"loss of power": {(*rafttest.Member).PowerLoss, rafthttp.DefaultConnReadTimeout},
	}
	for name, e := range ends {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				c, one, two, _ := pair(t, rafttest.Config{})
				if e.noticed > 0 {
					c.Partition([]uint64{1}, []uint64{2}) // it stays away
				}
				e.end(two)
				e.end(two)
				if e.noticed > 0 {
					require.Equal(t, 1, one.ActivePeers(), "nobody was told")
				}
				time.Sleep(e.noticed + time.Millisecond)
				require.Zero(t, one.ActivePeers())

				c.Heal()
				again := &recorder{}
				c.Start(2, again)
				time.Sleep(2 * time.Second)
				require.Equal(t, 1, one.ActivePeers())
				send(one, 7)
				require.Equal(t, []uint64{7}, again.indices())
			})
		})
	}
}

func TestLinksOfMembers(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c, one, _, got := pair(t, rafttest.Config{})
		c.Link(1, 2).SetDelay(900 * time.Millisecond)
		start := time.Now()
		send(one, 1)
		require.Equal(t, []time.Time{start.Add(900 * time.Millisecond)}, got.times())
	})
}

// TestMembersWithTLS: connections are encrypted, both ends show a certificate of the cluster's authority, and whoever
// shows none is refused.
func TestMembersWithTLS(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		verified := map[types.ID]string{} // by who is at the other end: the name in the certificate
		c, one, two, got := pair(t, rafttest.Config{TLS: true, Tune: func(_ uint64, tr *rafthttp.Transport) {
			tr.VerifyPeer = func(id types.ID, state *tls.ConnectionState) error {
				mu.Lock()
				defer mu.Unlock()
				verified[id] = state.PeerCertificates[0].DNSNames[0]
				return nil
			}
		}})
		require.Equal(t, "https://m2:2380", c.URL(2))
		require.Equal(t, []string{"https://m2:2380"}, two.URLs.StringSlice())
		send(one, 1)
		require.Equal(t, []uint64{1}, got.indices())
		mu.Lock()
		require.Equal(t, map[types.ID]string{1: "m1", 2: "m2"}, verified)
		mu.Unlock()

		stranger := &http.Client{Transport: &http.Transport{
			DialContext: c.Network().Host("stranger").DialContext, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		}}
		_, err := stranger.Get(c.URL(1) + rafthttp.ProbingPrefix)
		require.Error(t, err)
		require.Regexp(t, "certificate required|broken pipe|connection reset", err.Error()) // the alert may come too late

		two.Crash() // and it comes back with the same certificate
		again := &recorder{}
		c.Start(2, again)
		time.Sleep(2 * time.Second)
		send(one, 2)
		require.Equal(t, []uint64{2}, again.indices())
	})
}

// TestServersOfMembers: members are run by NewServer, with its bounds, or by what the test makes.
func TestServersOfMembers(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c, _, _, _ := pair(t, rafttest.Config{})
		conn, err := c.Network().Host("stranger").DialContext(t.Context(), "tcp", "m1:2380")
		require.NoError(t, err)
		start := time.Now()
		_, err = io.ReadAll(conn) // a request that never comes
		require.NoError(t, err)
		require.Equal(t, rafthttp.DefaultConnReadTimeout, time.Since(start))
	})
	bubble.Test(t, func(t *testing.T) {
		made := 0
		_, one, _, got := pair(t, rafttest.Config{Server: func(h http.Handler) *http.Server {
			made++
			return &http.Server{Handler: h}
		}})
		require.Equal(t, 2, made)
		send(one, 1)
		require.Equal(t, []uint64{1}, got.indices())
	})
}
