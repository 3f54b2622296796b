package followers_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
)

// groupsRaft is the Raft of a transport that two groups share: the Context of each
// message begins with that of its group. The first group may have none.
type groupsRaft [2]*raftMember

func (g groupsRaft) Process(ctx context.Context, m *raftpb.Message) error {
	group := g[0]
	if bytes.HasPrefix(m.Context, g[1].group) {
		group = g[1]
	}
	if m.Context = m.Context[len(group.group):]; len(m.Context) == 0 {
		m.Context = nil
	}
	return group.Process(ctx, m)
}

func (g groupsRaft) IsIDRemoved(uint64) bool { return false }

func (g groupsRaft) ReportUnreachable(id uint64) {
	for _, m := range g {
		m.ReportUnreachable(id)
	}
}

func (g groupsRaft) ReportSnapshot(id uint64, s raft.SnapshotStatus) {
	for _, m := range g {
		m.ReportSnapshot(id, s)
	}
}

// TestCongestedGroups: two groups of the same members share a line and a transport, and
// each gets all of its own, although their entries have the same terms and indexes. Each
// has a bound in bytes: copies of appends with a Context are not kept out of a queue.
func TestCongestedGroups(t *testing.T) {
	testmember.SkipWithTinyBuffers(t)
	bubble.Test(t, func(t *testing.T) {
		a, b := newGroups(t, []byte{0}, func(cfg *raft.Config) {
			cfg.MaxSizePerMsg, cfg.MaxInflightBytes = congestedEntry, congestedQueue/4
		})
		a.connect(nearLine, congestedLine)
		for _, c := range []*raftCluster{a, b} {
			require.NoError(t, c.leader().load(t.Context(), congestedEntries, congestedEntry, 0))
		}
		ideal := transmission(2*congestedEntries*congestedEntry, congestedLine.rate)
		testmember.Within(t, ideal+recovery, func() bool { return a.caughtUp(t) && b.caughtUp(t) })
	})
}

// TestCongestedGroupAmongOthers: a group without a Context whose follower lost appends
// goes on soon, although another group's appends with one pass all the time.
func TestCongestedGroupAmongOthers(t *testing.T) {
	testmember.SkipWithTinyBuffers(t)
	bubble.Test(t, func(t *testing.T) {
		a, b := newGroups(t, nil, func(cfg *raft.Config) { cfg.MaxSizePerMsg = congestedEntry })
		a.connect(nearLine, congestedLine)
		require.NoError(t, a.leader().load(t.Context(), congestedEntries, congestedEntry, 0))
		testmember.Within(t, fullQueue, func() bool { return a.leader().drops(theFollower) > 0 })
		undo := a.follower().drop(errDisk, func(*raftpb.Message) bool { return true })
		go func() { _ = b.leader().load(t.Context(), 1000, 100, 1000) }() // ten a second
		time.Sleep(fullQueue)
		undo()
		testmember.Within(t, transmission(congestedEntries*congestedEntry, congestedLine.rate)+recovery, func() bool { return a.caughtUp(t) })
	})
}

// TestCongestedGroupsWithoutBounds: nor does the line carry little but copies if raft's
// windows are larger than the queue. It may carry some, since these are not told.
func TestCongestedGroupsWithoutBounds(t *testing.T) {
	testmember.SkipWithTinyBuffers(t)
	const n = 200
	bubble.Test(t, func(t *testing.T) {
		a, b := newGroups(t, []byte{0}, func(cfg *raft.Config) { cfg.MaxSizePerMsg = congestedEntry })
		a.connect(nearLine, congestedLine)
		carried := a.follower().peer(theLeader).ReceivedBytes
		start := time.Now()
		for _, c := range []*raftCluster{a, b} {
			go func() { _ = c.leader().load(t.Context(), n, congestedEntry, 0) }()
		}
		ideal := transmission(2*n*congestedEntry, congestedLine.rate)
		testmember.Within(t, 6*ideal, func() bool {
			return a.leader().acknowledged(theFollower) >= n && b.leader().acknowledged(theFollower) >= n
		})
		took := time.Since(start)
		carried = a.follower().peer(theLeader).ReceivedBytes - carried
		share, waste := ideal.Seconds()/took.Seconds(), float64(carried)/(2*n*congestedEntry)
		t.Logf("%.0f %% of the line, waste %.2f, %d drops", 100*share, waste, a.leader().drops(theFollower))
		require.NotZero(t, a.leader().drops(theFollower))
		require.GreaterOrEqual(t, share, 0.8)
		require.LessOrEqual(t, waste, 1.25)
	})
}

// newGroups starts three members of two groups, on the same transports. The messages of
// the first have the given Context, nil for none.
func newGroups(t *testing.T, first []byte, tune func(*raft.Config)) (a, b *raftCluster) {
	t.Helper()
	a = newNetwork(t, congestedLine.window, nil, func(tr *rafthttp.Transport) { tr.SendQueueBytes = congestedQueue })
	b = &raftCluster{Cluster: a.Cluster}
	t.Cleanup(func() {
		for _, m := range b.members[1:] {
			m.stop()
		}
	})
	for id := uint64(1); id <= raftMembers; id++ {
		group := groupsRaft{newRaftMember(id, emptyLog(), tune), newRaftMember(id, emptyLog(), tune)}
		transport := a.Start(id, group)
		for i, c := range []*raftCluster{a, b} {
			c.members[id] = group[i]
			group[i].group = [][]byte{first, {1}}[i]
			group[i].attach(transport)
		}
	}
	a.elect(t)
	b.elect(t)
	return a, b
}
