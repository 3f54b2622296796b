package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/compat/member"
)

const (
	ours    = member.Ours
	stock37 = member.Stock37
	stock36 = member.Stock36
)

// TestEveryMix takes clusters of every mix of three through what happens to a cluster: proposals through each member, each
// member leading, each killed and started again, a learner that catches up by snapshot and is promoted, a removal.
func TestEveryMix(t *testing.T) {
	mixes := []struct{ first, second, third, learner member.Kind }{
		{stock37, stock37, stock37, stock37}, // the control
		{ours, stock37, stock37, ours},
		{ours, ours, stock37, stock37},
		{ours, ours, ours, ours},
		{ours, stock37, stock36, ours},
		{stock36, ours, ours, stock36},
	}
	for _, mix := range mixes {
		t.Run(fmt.Sprint(mix), func(t *testing.T) {
			t.Parallel()
			c := startCluster(t, mix.first, mix.second, mix.third)
			c.proposeAt(t, "begin", 1, 2, 3)
			for id := range uint64(3) {
				c.lead(t, id+1)
				c.proposeAt(t, fmt.Sprintf("%d leads", id+1), 1, 2, 3)
			}
			for id := range uint64(3) {
				c.killAndRestart(t, id+1)
			}
			c.addLearnerBySnapshot(t, 4, mix.learner)
			c.removeFirst(t)
			c.requireSame(t)
		})
	}
}

// killAndRestart kills a member, the leader if it is that, goes on without it, and starts it again.
func (c *cluster) killAndRestart(t *testing.T, id uint64) {
	t.Helper()
	n := c.nodes[id]
	n.kill()
	n.compact(t) // it starts again from a snapshot, not from the beginning of the log
	c.leader(t)
	c.proposeAt(t, fmt.Sprintf("without %d", id), c.ids()...)
	n.start(t, n.kind)
	c.proposeAt(t, fmt.Sprintf("%d again", id), id)
	c.requireSame(t)
}

// addLearnerBySnapshot adds a member whose beginning is in nobody's log any more, and makes it a voter when it has caught up.
func (c *cluster) addLearnerBySnapshot(t *testing.T, id uint64, kind member.Kind) {
	t.Helper()
	c.lead(t, 2) // in mixed clusters, of another make than the learner or than the rest
	for _, id := range c.ids() {
		c.nodes[id].compact(t)
	}
	n := newNode(t, id, c.urls)
	c.nodes[id] = n
	url := c.reserve(t, id)
	c.urls.mu.Lock()
	c.urls.urls[id] = url
	c.urls.mu.Unlock()
	c.change(t, raftpb.ConfChangeType_ConfChangeAddLearnerNode, id, func(s *raftpb.ConfState) bool { return slices.Contains(s.GetLearners(), id) })
	n.start(t, kind)
	c.requireSame(t)
	n.mu.Lock()
	require.NotZero(t, n.disk.snapshot.Index, "the learner has caught up without a snapshot")
	n.mu.Unlock()
	c.change(t, raftpb.ConfChangeType_ConfChangeAddNode, id, func(s *raftpb.ConfState) bool { return slices.Contains(s.GetVoters(), id) })
	c.proposeAt(t, "with a fourth", 1, 2, 3, id)
	c.lead(t, id)
	c.proposeAt(t, "the fourth leads", 1, 2, 3, id)
}

// removeFirst removes member 1, which learns it from the others.
func (c *cluster) removeFirst(t *testing.T) {
	t.Helper()
	n := c.nodes[1]
	c.change(t, raftpb.ConfChangeType_ConfChangeRemoveNode, 1, func(s *raftpb.ConfState) bool { return !slices.Contains(s.GetVoters(), 1) })
	require.Eventually(t, func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.removed[1] || slices.ContainsFunc(n.errors, func(err error) bool { return strings.Contains(err.Error(), "permanently removed") })
	}, patience, tick)
	n.kill()
	delete(c.nodes, 1)
	c.proposeAt(t, "without the first", c.ids()...)
}

// TestRollingReplacement replaces the members of a stock cluster one by one by ours, and then back, while clients propose
// through all of them. Every proposal that was acknowledged is applied on all members, in the same order.
func TestRollingReplacement(t *testing.T) {
	for _, stock := range []member.Kind{stock37, stock36} {
		t.Run(string(stock), func(t *testing.T) {
			t.Parallel()
			c := startCluster(t, stock, stock, stock)
			acknowledged := c.load(t, func() {
				for _, kind := range []member.Kind{ours, stock} {
					for _, id := range []uint64{1, 2, 3} {
						c.nodes[id].replace(t, kind)
						c.leader(t)
						c.proposeAt(t, fmt.Sprintf("%d is %s", id, kind), id) // it has caught up
					}
				}
			})
			applied := make(map[string]bool)
			for _, command := range c.requireSame(t) {
				applied[command] = true
			}
			require.Greater(t, len(acknowledged), 100)
			for _, command := range acknowledged {
				require.Truef(t, applied[command], "%s was acknowledged and is lost", command)
			}
		})
	}
}

// replace stops the node and starts it with a transport of another make.
func (n *node) replace(t *testing.T, kind member.Kind) {
	t.Helper()
	n.life.Lock() // waits for the proposals under way at this node
	defer n.life.Unlock()
	n.kill()
	n.start(t, kind)
}

// load proposes through all members while do runs, and returns what was acknowledged.
func (c *cluster) load(t *testing.T, do func()) (acknowledged []string) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	var mu sync.Mutex
	for client := range 6 {
		n := c.nodes[uint64(client%3+1)]
		clients.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				command := fmt.Sprintf("client %d, %d", client, i)
				n.life.RLock()
				try, cancel := context.WithTimeout(ctx, patience)
				err := n.propose(try, command)
				cancel()
				n.life.RUnlock()
				if err == nil {
					mu.Lock()
					acknowledged = append(acknowledged, command)
					mu.Unlock()
				} else if !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			}
		})
	}
	do()
	stop()
	clients.Wait()
	return acknowledged
}
