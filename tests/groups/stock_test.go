package groups_test

import (
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// asked records the paths of requests to a member.
type asked struct {
	mu    sync.Mutex
	paths map[string]int
}

func (a *asked) by(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		a.paths[r.URL.Path]++
		a.mu.Unlock()
		next.ServeHTTP(w, r)
	})
}

func (a *asked) counts() map[string]int {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := a.paths
	a.paths = map[string]int{}
	return all
}

// TestAStockMemberIsSentProbesOnly: also in place of the first messages, before it was asked, and after it took the place of a
// node. There are as many probes with messages as without.
func TestAStockMemberIsSentProbesOnly(t *testing.T) {
	for name, first := range map[string]bool{"from the start": false, "in place of a node": true} {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				ma := startNode(t, n, 1)
				var a joined
				if first {
					mb := startNode(t, n, 2)
					a, _ = connect(t, ma, mb, 7, nil)
					time.Sleep(time.Second)
					n.Host(testmember.HostOf(2)).Crash()
					mb.Stop()
				} else {
					a = join(t, ma, 7, nil)
				}
				paths := &asked{paths: map[string]int{}}
				stock, store := startStockBehind(t, n, paths.by)
				a.AddPeer(2, []string{testmember.URLOf(2)})
				for range 20000 { // 40 seconds
					a.Send(testmember.Heartbeats(1, 2, 1))
					time.Sleep(2 * time.Millisecond)
				}
				synctest.Wait()
				require.Greater(t, a.raft.Unreachables(2), 1000)
				counts := paths.counts()
				require.Len(t, counts, 1)
				require.Less(t, counts["/raft/probing"], 150)
				time.Sleep(time.Minute)
				idle := paths.counts()
				require.Len(t, idle, 1)
				require.Less(t, idle["/raft/probing"], 130)
				requireUntouched(t, stock, store)
			})
		})
	}
}

// TestANodeGetsPostsOnceItHasAGroup: a member of this library that has no groups yet is sent probes, and messages once it has.
func TestANodeGetsPostsOnceItHasAGroup(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a := join(t, startNode(t, n, 1), 7, nil)
		mb := startNode(t, n, 2)
		a.AddPeer(2, []string{testmember.URLOf(2)})
		time.Sleep(5 * time.Second)
		a.Send(testmember.Heartbeats(1, 2, 1))
		time.Sleep(100 * time.Millisecond)
		require.Equal(t, 1, a.raft.Unreachables(2))
		b := join(t, mb, 7, nil)
		time.Sleep(2 * time.Second)
		want := testmember.Heartbeats(1, 2, 3)
		a.Send(want) // by POST: b does not know a, and dials no streams
		requireReceived(t, want, b)
	})
}
