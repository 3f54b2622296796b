package followers_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/memnet/rafttest"
)

// congestions are the cases of TestCongestedFollower.
var congestions = []congestion{
	{name: "nothing", event: func(*testing.T, *raftCluster) {}},

	// Answers that do not come.
	{name: "answers lost for 2 s", event: func(_ *testing.T, c *raftCluster) { loseAcks(c, 2*time.Second, nil) }},
	{name: "answers lost for 12 s", event: func(_ *testing.T, c *raftCluster) { loseAcks(c, 12*time.Second, nil) }},
	{name: "message stream back cut", event: func(_ *testing.T, c *raftCluster) {
		c.streams.cut("message", theFollower, theLeader)
	}},
	{name: "message stream back cut again and again", event: func(_ *testing.T, c *raftCluster) {
		for range 20 {
			c.streams.cut("message", theFollower, theLeader)
			time.Sleep(200 * time.Millisecond)
		}
	}},
	{name: "way back cut for 3 s", event: func(_ *testing.T, c *raftCluster) {
		c.Link(theFollower, theLeader).Cut()
		time.Sleep(3 * time.Second)
		c.Heal()
	}},
	{name: "way back cut for 8 s", event: func(_ *testing.T, c *raftCluster) {
		c.Link(theFollower, theLeader).Cut()
		time.Sleep(8 * time.Second)
		c.Heal()
	}},

	{name: "message stream back refused: answers come by posts", event: func(_ *testing.T, c *raftCluster) {
		c.streams.refuse("message", theFollower, theLeader)
	}},

	// Streams that end.
	{name: "msgapp stream refused: appends take the message stream", via: "message", stale: fullQueue, event: func(_ *testing.T, c *raftCluster) {
		c.streams.refuse("msgapp", theLeader, theFollower)
	}},
	{name: "both streams refused: appends are posted", via: "pipeline", stale: fullQueue, event: func(_ *testing.T, c *raftCluster) {
		c.streams.refuse("msgapp", theLeader, theFollower)
		c.streams.refuse("message", theLeader, theFollower)
	}},
	{name: "msgapp stream cut", event: func(_ *testing.T, c *raftCluster) {
		c.streams.cut("msgapp", theLeader, theFollower)
	}},
	{name: "both ways cut for 3 s", event: func(_ *testing.T, c *raftCluster) {
		c.Partition([]uint64{theFollower}, []uint64{1, 2})
		time.Sleep(3 * time.Second)
		c.Heal()
	}},
	{name: "both ways cut for 8 s", event: func(_ *testing.T, c *raftCluster) {
		c.Partition([]uint64{theFollower}, []uint64{1, 2})
		time.Sleep(8 * time.Second)
		c.Heal()
	}},
	{name: "connections reset", event: func(_ *testing.T, c *raftCluster) {
		c.Network().Reset(rafttest.Host(theLeader), rafttest.Host(theFollower))
	}},
	{name: "paused for 2 s", stale: fullQueue, event: func(_ *testing.T, c *raftCluster) { c.pause(2 * time.Second) }},
	{name: "peer removed and added", event: func(_ *testing.T, c *raftCluster) {
		c.leader().transport.RemovePeer(theFollower)
		c.leader().transport.AddPeer(theFollower, []string{rafttest.URL(theFollower)})
	}},

	// Appends that are lost behind the follower's transport. What is queued behind
	// one is of no use.
	{name: "one append lost", stale: fullQueue, event: func(_ *testing.T, c *raftCluster) {
		c.follower().drop(nil, once(hasEntries))
	}},
	{name: "one append failed", stale: fullQueue, event: func(_ *testing.T, c *raftCluster) {
		c.follower().drop(errDisk, once(hasEntries))
	}},
	{name: "appends fail for 2 s", stale: fullQueue, event: func(_ *testing.T, c *raftCluster) {
		undo := c.follower().drop(errDisk, hasEntries)
		time.Sleep(2 * time.Second)
		undo()
	}},
	{name: "last append lost", event: func(_ *testing.T, c *raftCluster) {
		last := c.leader().lastIndex()
		c.follower().drop(nil, once(func(msg *raftpb.Message) bool {
			return hasEntries(msg) && msg.GetIndex()+uint64(len(msg.GetEntries())) == last
		}))
	}},
	{name: "one append and the rejections for 2 s lost", stale: fullQueue, event: func(_ *testing.T, c *raftCluster) {
		c.follower().drop(nil, once(hasEntries))
		loseAcks(c, 2*time.Second, (*raftpb.Message).GetReject)
	}},
	{name: "every 40th entry lost once", stale: 3 * fullQueue, event: func(_ *testing.T, c *raftCluster) {
		lost := make(map[uint64]bool)
		c.follower().drop(nil, func(msg *raftpb.Message) bool {
			for _, e := range msg.GetEntries() {
				if i := e.GetIndex(); i%40 == 0 && !lost[i] {
					lost[i] = true
					return true
				}
			}
			return false
		})
	}},
	{name: "Process stands still for 10 s", event: func(_ *testing.T, c *raftCluster) {
		first := once(hasEntries)
		c.follower().slow(func(_ context.Context, msg *raftpb.Message) error {
			if msg.GetType() == raftpb.MsgApp && first(msg) {
				time.Sleep(10 * time.Second)
			}
			return nil
		})
		time.Sleep(10 * time.Second)
	}},

	// Another leader, another log.
	{name: "leader changed", event: func(t *testing.T, c *raftCluster) { c.transfer(t, 2) }},
	{name: "leader changed and proposes", event: func(t *testing.T, c *raftCluster) {
		c.transfer(t, 2)
		require.NoError(t, c.members[2].load(t.Context(), congestedEntries, congestedEntry, 0))
	}},
	{name: "leader changed there and back", stale: fullQueue, event: func(t *testing.T, c *raftCluster) {
		c.transfer(t, 2)
		time.Sleep(100 * time.Millisecond)
		c.transfer(t, 1)
	}},
	{name: "log compacted", stale: fullQueue, event: func(t *testing.T, c *raftCluster) {
		c.leader().compact(t)
		c.members[2].compact(t)
	}},
	{name: "log compacted, and more proposed", event: func(t *testing.T, c *raftCluster) {
		c.leader().compact(t)
		require.NoError(t, c.leader().load(t.Context(), congestedEntries, congestedEntry, 0))
	}},
	{name: "follower restarted", event: func(_ *testing.T, c *raftCluster) {
		c.restart(theFollower, c.crash(theFollower)).startClock()
	}},
	{name: "follower added anew with an empty disk", event: func(t *testing.T, c *raftCluster) { c.replaceDisk(t, true) }},
	{name: "the same, as the same peer", event: func(t *testing.T, c *raftCluster) { c.replaceDisk(t, false) }},
	// Once the stream is back the line still carries what was posted meanwhile.
	{name: "msgapp stream cut again and again", stale: fullQueue, event: func(_ *testing.T, c *raftCluster) {
		for range 8 {
			c.streams.cut("msgapp", theLeader, theFollower)
			time.Sleep(500 * time.Millisecond)
		}
	}},
	{name: "congested twice", event: func(t *testing.T, c *raftCluster) {
		c.requireRecovery(t, congestedEntry, congestedLine.rate, 0)
		require.NoError(t, c.leader().load(t.Context(), congestedEntries, congestedEntry, 0))
	}},
}
