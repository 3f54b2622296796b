// Package cluster_test runs real raft clusters whose members have transports of different makes.
package cluster_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/compat/member"
)

var quiet = log.New(io.Discard, "", 0)

func TestMain(m *testing.M) {
	code := m.Run()
	member.RemoveHelper()
	os.Exit(code)
}

// patience is how long a test waits for what must happen.
const patience = 60 * time.Second

// cluster is the nodes of one test, by id.
type cluster struct {
	urls  *book
	nodes map[uint64]*node
}

// startCluster runs a new cluster of members 1, 2, ... of the kinds and waits for its leader.
func startCluster(t *testing.T, kinds ...member.Kind) *cluster {
	t.Helper()
	c := &cluster{urls: &book{urls: make(map[uint64]string)}, nodes: make(map[uint64]*node)}
	var peers []raft.Peer
	for i := range kinds {
		id := uint64(i + 1)
		c.nodes[id] = newNode(t, id, c.urls)
		c.urls.urls[id] = c.reserve(t, id)
		peers = append(peers, raft.Peer{ID: id})
	}
	for i, kind := range kinds {
		c.nodes[uint64(i+1)].start(t, kind, peers...)
	}
	c.leader(t)
	return c
}

// reserve finds an address for a node that is not started yet: the log names members before they listen. Its port is
// below those that the system gives to outgoing connections: one of these would take it while the node is down.
func (c *cluster) reserve(t *testing.T, id uint64) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 15000+rand.IntN(15000)))
		if err != nil {
			continue
		}
		c.nodes[id].listen = l.Addr().String()
		require.NoError(t, l.Close())
		return "http://" + c.nodes[id].listen
	}
	require.Fail(t, "no free port")
	return ""
}

func (c *cluster) ids() []uint64 {
	var ids []uint64
	for id, n := range c.nodes {
		if n.stop != nil {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// leader waits until all nodes that live agree on a leader, and returns it.
func (c *cluster) leader(t *testing.T) (lead uint64) {
	t.Helper()
	require.Eventually(t, func() bool {
		lead = 0
		for _, id := range c.ids() {
			s := c.nodes[id].raft.Status()
			if s.Lead == 0 || lead != 0 && s.Lead != lead {
				return false
			}
			lead = s.Lead
		}
		return c.nodes[lead] != nil && c.nodes[lead].stop != nil
	}, patience, tick)
	return lead
}

// lead makes the node the leader.
func (c *cluster) lead(t *testing.T, id uint64) {
	t.Helper()
	require.Eventually(t, func() bool {
		now := c.leader(t)
		if now != id {
			c.nodes[now].raft.TransferLeadership(t.Context(), now, id)
		}
		return now == id
	}, patience, 2*election*tick)
}

// propose proposes a command at a node, again and again until that node has applied it: a proposal may be lost.
func (n *node) propose(ctx context.Context, command string) error {
	applied := make(chan struct{})
	n.mu.Lock()
	n.waiting[command] = applied
	r := n.raft
	n.mu.Unlock()
	for {
		try, cancel := context.WithTimeout(ctx, 2*election*tick)
		_ = r.Propose(try, []byte(command))
		select {
		case <-applied:
			cancel()
			return nil
		case <-try.Done():
			cancel()
		}
		if ctx.Err() != nil {
			return fmt.Errorf("propose %s at %d: %w", command, n.id, ctx.Err())
		}
	}
}

// proposeAt proposes some commands at every node that lives.
func (c *cluster) proposeAt(t *testing.T, label string, ids ...uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, id := range ids {
		for i := range 5 {
			require.NoError(t, c.nodes[id].propose(ctx, fmt.Sprintf("%s, %d at member %d", label, i, id)))
		}
	}
}

// change proposes a change of the members at the leader until it is in force there.
func (c *cluster) change(t *testing.T, typ raftpb.ConfChangeType, id uint64, inForce func(*raftpb.ConfState) bool) {
	t.Helper()
	require.Eventually(t, func() bool {
		n := c.nodes[c.leader(t)]
		n.mu.Lock()
		conf := n.state.Conf
		n.mu.Unlock()
		if inForce(conf) {
			return true
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*election*tick)
		defer cancel()
		_ = n.raft.ProposeConfChange(ctx, &raftpb.ConfChange{Type: typ.Enum(), NodeId: &id})
		return false
	}, patience, 5*tick)
}

// requireSame waits until all nodes that live have applied as much as any, and requires that they applied the same.
func (c *cluster) requireSame(t *testing.T) []string {
	t.Helper()
	states := func() (all [][]string) {
		for _, id := range c.ids() {
			n := c.nodes[id]
			n.mu.Lock()
			all = append(all, slices.Clone(n.state.Commands))
			n.mu.Unlock()
		}
		return all
	}
	var all [][]string // as they were when none was behind: what clients have given up on may still be applied
	require.Eventually(t, func() bool {
		now := states()
		if slices.ContainsFunc(now, func(s []string) bool { return len(s) != len(now[0]) }) {
			return false
		}
		all = now
		return true
	}, patience, tick)
	for i, s := range all {
		require.Equal(t, all[0], s, "members %d and %d", c.ids()[0], c.ids()[i])
	}
	return all[0]
}
