package migrate_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestRollingUpgradeFromRaft35 takes a cluster of processes on raft 3.5 and 3.6 and etcd's transport to raft 3.7 and this transport,
// member by member, over mutual TLS. Each member is killed, and the new program goes on with its data.
func TestRollingUpgradeFromRaft35(t *testing.T) {
	raft35, raft36, raft37 := build(t, "raft35"), build36(t), build(t, "raft37")
	c := newProcesses(t)
	c.start(1, raft35, "-new")
	c.start(2, raft36, "-new")
	c.start(3, raft35, "-new")
	for id := 1; id <= 3; id++ {
		c.write(id, 10, "before the upgrade")
	}

	c.lead(1)
	c.kill(3)
	c.write(2, 60, "member 3 is away")
	c.start(3, raft37)
	c.write(3, 10, "the first new member")
	require.GreaterOrEqual(t, c.alive[3].renewed, 2, "a snapshot came from an old leader")

	c.kill(1)
	c.start(1, raft37)
	c.lead(1)
	c.kill(2)
	c.write(1, 60, "member 2 is away")
	c.start(2, raft36)
	c.write(2, 10, "the last old member")
	require.GreaterOrEqual(t, c.alive[2].renewed, 2, "a snapshot came from a new leader")
	c.kill(2)
	c.start(2, raft37)
	c.write(2, 10, "all are new")

	c.await(func() bool { return strings.Contains(c.alive[1].members, "4") }, func() { c.say(1, "/add 4 "+c.urls[4]) })
	c.start(4, raft35, "-join", "-member", "4="+c.urls[4])
	c.write(4, 10, "an old member joins")

	c.kill(3)
	c.start(3, raft35)
	c.lead(3)
	c.write(3, 40, "the way back")
}
