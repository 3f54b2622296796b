package refusal_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/compat/member"
)

// TestBrokenPosts pins a deviation: a post on a connection that the peer was closing is made again by ours, except for a
// proposal, which raft would append twice. Upstream makes none again, and reports each.
func TestBrokenPosts(t *testing.T) {
	for _, kind := range []member.Kind{member.Stock37, member.Ours} {
		for _, typ := range []raftpb.MessageType{raftpb.MessageType_MsgHeartbeat, raftpb.MessageType_MsgProp} {
			t.Run(string(kind)+"/"+typ.String(), func(t *testing.T) {
				t.Parallel()
				server, posts := breaksSecondPost(t)
				recorder := new(member.Recorder)
				m, err := member.Start(kind, member.Config{ID: 1, Cluster: cluster, Dir: t.TempDir(), Raft: recorder})
				require.NoError(t, err)
				t.Cleanup(m.Stop)
				m.AddRemote(2, server)
				message := toPeer(heartbeat())
				message.Type = typ.Enum()
				m.Send(message)
				require.Eventually(t, func() bool { return posts.Load() == 1 }, 20*time.Second, time.Millisecond)
				require.Never(t, func() bool { return posts.Load() > 1 }, 100*time.Millisecond, 5*time.Millisecond) // the connection is free again
				m.Send(message)
				if again := kind == member.Ours && typ != raftpb.MessageType_MsgProp; again {
					require.Eventually(t, func() bool { return posts.Load() == 3 }, 20*time.Second, time.Millisecond)
					return
				}
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				require.NoError(t, recorder.Wait(ctx, func(s *member.Seen) bool { return s.Unreachable[2] > 0 }))
				require.EqualValues(t, 2, posts.Load())
			})
		}
	}
}

// breaksSecondPost serves posts, but closes a connection instead of answering the second one on it.
func breaksSecondPost(t *testing.T) (url string, posts *atomic.Int64) {
	t.Helper()
	posts = new(atomic.Int64)
	var mu sync.Mutex
	seen := make(map[string]bool) // connections, by the other end's address
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			http.NotFound(w, r)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		mu.Lock()
		second := seen[r.RemoteAddr]
		seen[r.RemoteAddr] = true
		mu.Unlock()
		posts.Add(1)
		if second {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(server.Close)
	return server.URL, posts
}

// waitingRaft lets Process wait, and tells of its context.
type waitingRaft struct {
	member.Recorder
	contexts chan context.Context
	release  chan struct{}
}

func (r *waitingRaft) Process(ctx context.Context, _ *raftpb.Message) error {
	r.contexts <- ctx
	<-r.release
	return nil
}

// TestContextOfAPost pins a deviation: the context that raft works with has a deadline. That the client goes away ends it in
// neither make.
func TestContextOfAPost(t *testing.T) {
	for _, kind := range []member.Kind{member.Stock37, member.Ours} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			raft := &waitingRaft{contexts: make(chan context.Context, 1), release: make(chan struct{})}
			m, err := member.Start(kind, member.Config{ID: 1, Cluster: cluster, Dir: t.TempDir(), Raft: raft})
			require.NoError(t, err)
			t.Cleanup(m.Stop)
			defer close(raft.release)
			conn, err := net.Dial("tcp", strings.TrimPrefix(m.URL(), "http://"))
			require.NoError(t, err)
			writeRequest(t, conn, pipeline)
			ctx := <-raft.contexts
			require.NoError(t, conn.Close())
			require.Never(t, func() bool { return ctx.Err() != nil }, 300*time.Millisecond, 5*time.Millisecond)
			_, bounded := ctx.Deadline()
			require.Equal(t, kind == member.Ours, bounded)
		})
	}
}

// useProxy makes the environment of this process name a proxy, before anything has read it, and returns who asked it. net/http
// uses no proxy for a host that it takes for local, so the other tests notice nothing.
func useProxy() (proxied *sync.Map, stop func()) {
	proxied = new(sync.Map)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		proxied.Store(r.URL.Host, true)
		http.NotFound(w, r)
	}))
	os.Setenv("HTTP_PROXY", proxy.URL)
	os.Unsetenv("NO_PROXY")
	os.Unsetenv("no_proxy")
	return proxied, proxy.Close
}

// TestProxiesAreNotUsed pins a deviation: members find each other without the proxy that the environment names.
func TestProxiesAreNotUsed(t *testing.T) {
	for _, kind := range []member.Kind{member.Stock37, member.Ours} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			direct := new(atomic.Int64)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				direct.Add(1)
				http.NotFound(w, r)
			}))
			t.Cleanup(server.Close)
			_, port, err := net.SplitHostPort(strings.TrimPrefix(server.URL, "http://"))
			require.NoError(t, err)
			host := net.JoinHostPort("0.0.0.0", port) // reaches this machine, and net/http does not take it for local
			m, err := member.Start(kind, member.Config{ID: 1, Cluster: cluster, Dir: t.TempDir(), Raft: new(member.Recorder)})
			require.NoError(t, err)
			t.Cleanup(m.Stop)
			m.AddPeer(2, "http://"+host)
			usesProxy := func() bool { _, ok := proxied.Load(host); return ok }
			if kind == member.Ours {
				require.Eventually(t, func() bool { return direct.Load() > 2 }, 20*time.Second, 5*time.Millisecond)
				require.False(t, usesProxy())
			} else {
				require.Eventually(t, usesProxy, 20*time.Second, 5*time.Millisecond)
				require.Zero(t, direct.Load())
			}
		})
	}
}
