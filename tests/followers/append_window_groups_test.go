package followers_test

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// TestAppendWindowIsForRaftsOwnAppends: where several groups share a transport by the
// Context of messages, an index says nothing: no copy is skipped.
func TestAppendWindowIsForRaftsOwnAppends(t *testing.T) {
	crowdedTest("context", t, func(t *testing.T, c *crowded) {
		c.leader.Send([]*raftpb.Message{ofGroup2(5)})
		testmember.Within(t, time.Second, func() bool { return c.leader.Recorder.Unreachables(2) == 1 })
		testmember.Within(t, 10*time.Second, func() bool { return c.lane().Queued < crowdedQueue })
		c.leader.Send([]*raftpb.Message{ofGroup2(3)})
		c.requireArrive(1, 2, 3, 4, 5, 6, 7, 8, 4)
	})
	crowdedTest("without room, told once none of its own is queued", t, func(t *testing.T, c *crowded) {
		c.requireArrive(1, 2, 3, 4, 5, 6, 7, 8)
		c.answer(8, false) // or the window of the other group would expire
		for range crowdedQueue + 1 {
			m := ofGroup2(20)
			m.Entries[0].Data = make([]byte, crowdedEntry)
			c.leader.Send([]*raftpb.Message{m})
		}
		require.Equal(t, crowdedQueue, c.lane().Queued, "copies are not told")
		testmember.Within(t, 10*time.Second, func() bool { return c.lane().Queued == 1 })
		before := c.lane().Dropped
		c.leader.Send([]*raftpb.Message{ofGroup2(30)})
		require.Equal(t, before+1, c.lane().Dropped, "withheld, although there is room")
		require.Equal(t, 1, c.leader.Recorder.Unreachables(2))
		testmember.Within(t, 2*time.Second, func() bool { return c.lane().Queued == 0 })
		synctest.Wait()
		require.Equal(t, 2, c.leader.Recorder.Unreachables(2))
		c.leader.Send([]*raftpb.Message{ofGroup2(20)})
		testmember.Within(t, 10*time.Second, func() bool { return c.arrivals(21) == crowdedQueue+1 })
	})
	crowdedTest("another group fills the room", t, func(t *testing.T, c *crowded) {
		for start := time.Now(); c.leader.Recorder.Unreachables(2) == 0; time.Sleep(time.Millisecond) {
			require.Less(t, time.Since(start), 6*time.Second, "half of the tracked ones have been written")
			if c.lane().Queued < crowdedQueue {
				c.leader.Send([]*raftpb.Message{ofGroup2(1000)})
			}
		}
	})
	crowdedTest("an answer with a context", t, func(t *testing.T, c *crowded) {
		c.drain()
		m := testmember.Message(raftpb.MsgAppResp, 1)
		m.From, m.Index, m.Context = new(uint64(2)), new(uint64(8)), []byte("group 2")
		c.follower.Send([]*raftpb.Message{m})
		testmember.Within(t, time.Second, func() bool { return len(c.leader.Recorder.Received()) == 1 })
		c.append(2, 3)
		require.EqualValues(t, 1, c.lane().Duplicates)
		c.requireArrive(1, 2, 3, 4, 5, 6, 7, 8)
	})
}

// ofGroup2 is an append of a group that shares the transport.
func ofGroup2(index uint64) *raftpb.Message {
	m := testmember.MsgApp(2, 1, index, nil)
	m.Context = []byte("group 2")
	return m
}

// TestSnapshotOfAnotherGroup: it says nothing of the window of raft's own appends: the copies of these are told as before.
func TestSnapshotOfAnotherGroup(t *testing.T) {
	ways := map[string]func(c *crowded, m *raftpb.Message){
		"with a database": func(c *crowded, m *raftpb.Message) {
			c.leader.SendSnapshot(snap.NewMessage(m, &testmember.Database{Reader: bytes.NewReader(make([]byte, 1000))}, 1000))
		},
		"by post": func(c *crowded, m *raftpb.Message) { c.leader.Send([]*raftpb.Message{m}) },
	}
	for way, send := range ways {
		crowdedTest(way, t, func(t *testing.T, c *crowded) {
			c.drain()
			m := testmember.MsgSnap(2, 1, 20)
			m.Context = []byte("group 2")
			send(c, m)
			testmember.Within(t, 4*time.Second, func() bool { return len(c.leader.Recorder.SnapshotReports()) == 1 })
			require.Equal(t, []raft.SnapshotStatus{raft.SnapshotFinish}, c.leader.Recorder.SnapshotReports())
			c.append(2, 12)
			require.EqualValues(t, 6, c.lane().Duplicates)
			c.requireArrive(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)
		})
	}
}
