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

// TestAnswersOfAnAddressThatWasLeft: a probe that is answered late, by what was at the URLs of a node before it has moved, says nothing of
// the present one: a stock member there is sent probes only, and a node there is not taken for a stock member.
func TestAnswersOfAnAddressThatWasLeft(t *testing.T) {
	for name, formerHas := range map[string]bool{"to a stock member": true, "from a stock member": false} {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				a := join(t, startNode(t, n, 1), 7, nil)
				front(t, n, nil, func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
					time.Sleep(3 * time.Second)
					w.Header().Set("X-Etcd-Cluster-Id", r.Header.Get("X-Etcd-Cluster-Id"))
					if formerHas {
						w.Header().Set("X-Raft-Extensions", "groups-1")
					}
				})
				a.AddPeer(2, []string{frontURL})
				a.Send(testmember.Heartbeats(1, 2, 1))
				time.Sleep(time.Second)
				require.Zero(t, a.raft.Unreachables(2), "it waits for the answer")
				paths := &asked{paths: map[string]int{}}
				var b joined
				if formerHas {
					stock, store := startStockBehind(t, n, paths.by)
					defer func() { requireUntouched(t, stock, store) }()
				} else {
					b = join(t, startNode(t, n, 2), 7, nil)
				}
				a.UpdatePeer(2, []string{testmember.URLOf(2)})
				lost := 0
				for range 500 { // 5 seconds
					time.Sleep(10 * time.Millisecond)
					a.Send(testmember.Heartbeats(1, 2, 1))
					lost = max(lost, a.raft.Unreachables(2))
				}
				synctest.Wait()
				if formerHas {
					require.Len(t, paths.counts(), 1)
					return
				}
				require.Equal(t, 1, lost, "the first one, at the former URL")
				require.Len(t, b.raft.Received(), 500)
			})
		})
	}
}
