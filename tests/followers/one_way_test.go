package followers_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet/rafttest"
)

// newOneWayCluster starts three members of which 2 leads and cannot dial 1, so that
// what 1 sends to 2 goes by posts. 1 is the first to campaign when there is no leader:
// it waits for 0.6 to 1.1 s, the others for 1 to 1.9.
func newOneWayCluster(t *testing.T) *raftCluster {
	t.Helper()
	c := &raftCluster{tune: func(cfg *raft.Config) {
		if cfg.ID == 1 {
			cfg.ElectionTick = 6
		}
	}}
	c.Cluster = rafttest.New(t, rafttest.Config{Members: raftMembers, Tune: func(id uint64, tr *rafthttp.Transport) {
		dial := tr.DialContext
		tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if id == 2 && addr == rafttest.Host(1)+":2380" {
				return nil, errors.New("no way")
			}
			return dial(ctx, network, addr)
		}
	}})
	for id := range uint64(raftMembers) {
		c.start(id + 1)
	}
	t.Cleanup(func() {
		for _, m := range c.members[1:] {
			m.stop()
		}
	})
	time.Sleep(2 * time.Second)
	require.NoError(t, c.members[2].node.Campaign(t.Context()))
	for _, m := range c.members[1:] {
		m.startClock()
	}
	testmember.Within(t, 10*time.Second, func() bool { return c.members[2].node.Status().RaftState == raft.StateLeader })
	return c
}

// propose has n clients propose at a member until the test ends.
func (m *raftMember) propose(t *testing.T, n int) {
	ctx, cancel := context.WithCancel(context.Background())
	var clients sync.WaitGroup
	for range n {
		clients.Go(func() {
			for ctx.Err() == nil {
				once, done := context.WithTimeout(ctx, 5*time.Second)
				_ = m.node.Propose(once, payload[:100])
				done()
				time.Sleep(50 * time.Millisecond)
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		clients.Wait()
	})
}

// agree reports whether members have the same leader, which takes itself for it.
func (c *raftCluster) agree(ids ...uint64) bool {
	lead := c.members[ids[0]].node.Status().Lead
	for _, id := range ids {
		if c.members[id].node.Status().Lead != lead {
			return false
		}
	}
	return lead != 0 && c.members[lead].node.Status().RaftState == raft.StateLeader
}

// TestElectionBesidePostedProposals: proposals that wait for a leader at the other
// end of posts do not hold up the votes that bring one.
func TestElectionBesidePostedProposals(t *testing.T) {
	const fails = "the link, and 3 fails"
	cuts := map[string][][]uint64{"the link": {{1}, {2}}, "all links": {{1}, {2}, {3}}, fails: {{1}, {2}, {3}}}
	for name, cut := range cuts {
		for _, clients := range []int{0, 4, 40} {
			t.Run(fmt.Sprintf("%s/%d clients", name, clients), func(t *testing.T) {
				if testmember.RaceEnabled && clients == 40 {
					t.Skip("is run without the race detector")
				}
				bubble.Test(t, func(t *testing.T) {
					c := newOneWayCluster(t)
					c.members[1].propose(t, clients)
					time.Sleep(2 * time.Second)
					c.Partition(cut...)
					time.Sleep(3 * time.Second)
					c.Heal()
					if name == fails {
						c.Partition([]uint64{3}, []uint64{1, 2})
					}
					start := time.Now()
					for time.Since(start) < time.Minute && !c.agree(1, 2) {
						time.Sleep(10 * time.Millisecond)
					}
					require.Less(t, time.Since(start), 3*time.Second)
				})
			})
		}
	}
}
