package followers_test

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// TestAppendWindowEndsWithASnapshot: raft goes on behind a snapshot that the follower has taken, also if the follower's answer to
// it is lost: what it sends then is neither withheld nor taken for a copy.
func TestAppendWindowEndsWithASnapshot(t *testing.T) {
	ways := map[string]func(c *crowded, index uint64){
		"with a database": func(c *crowded, index uint64) {
			m := snap.NewMessage(testmember.MsgSnap(2, 1, index), &testmember.Database{Reader: bytes.NewReader(make([]byte, 1000))}, 1000)
			c.leader.SendSnapshot(m)
			testmember.Within(c.t, 10*time.Second, func() bool { return len(c.leader.Recorder.SnapshotReports()) == 1 }) // by which raft goes on
			require.True(c.t, <-m.CloseNotify())
		},
		"by post": func(c *crowded, index uint64) {
			c.leader.Send([]*raftpb.Message{testmember.MsgSnap(2, 1, index)})
			testmember.Within(c.t, 10*time.Second, func() bool { return len(c.leader.Recorder.SnapshotReports()) == 1 })
		},
	}
	for way, send := range ways {
		crowdedTest(way+", beyond", t, func(t *testing.T, c *crowded) {
			c.requireArrive(1, 2, 3, 4, 5, 6, 7, 8)
			c.append(100, 101) // before raft knows of the snapshot's end: it could only be rejected
			send(c, 100)
			began := time.Now()
			c.append(100, 103)
			testmember.Within(t, 4*time.Second, func() bool { return len(c.arrived()) == crowdedQueue+3 })
			require.Less(t, time.Since(began), testmember.ReadTimeout)
			c.requireArrive(1, 2, 3, 4, 5, 6, 7, 8, 101, 102, 103)
		})
		crowdedTest(way+", within", t, func(t *testing.T, c *crowded) {
			c.requireArrive(1, 2, 3, 4, 5, 6, 7, 8)
			send(c, 5)
			c.append(5, 6)
			testmember.Within(t, 4*time.Second, func() bool { return len(c.arrived()) == crowdedQueue+1 })
			c.requireArrive(1, 2, 3, 4, 5, 6, 7, 8, 6)
		})
		crowdedTest(way+", before raft was told of drops", t, func(t *testing.T, c *crowded) {
			send(c, 5)
			require.LessOrEqual(t, c.leader.Recorder.Unreachables(2), 1)
			synctest.Wait()
			require.Equal(t, 1, c.leader.Recorder.Unreachables(2))
		})
	}
}

// TestAppendWindowBehindWhatIsAcknowledged: a queue overflows with appends that the follower had already, as it says late.
// Raft, told of that, goes on behind all of them: that is neither withheld nor lost without a report.
func TestAppendWindowBehindWhatIsAcknowledged(t *testing.T) {
	crowdedTest("goes on", t, func(t *testing.T, c *crowded) {
		c.requireArrive(1, 2, 3, 4, 5, 6, 7, 8)
		c.answer(15, false) // what was sent before by another stream
		told := c.leader.Recorder.Unreachables(2)
		c.append(2, 20) // raft does not know yet
		testmember.Within(t, 10*time.Second, func() bool { return c.leader.Recorder.Unreachables(2) > told })
		c.append(15, 17) // now it does
		c.requireArrive(1, 2, 3, 4, 5, 6, 7, 8, 3, 4, 5, 6, 7, 8, 9, 10, 16, 17)
	})
}

// TestAppendWindowBehindAnotherWay: entries went by another way meanwhile, which an append without entries behind them shows,
// and were lost with it. Raft goes back to where the appends of this way ended; copies of what it sends then are told as well.
func TestAppendWindowBehindAnotherWay(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		c := crowdLine(t, n)
		c.append(0, 3)
		behind := testmember.MsgApp(2, 1, 6, nil)
		behind.Entries = nil
		c.leader.Send([]*raftpb.Message{behind})
		c.append(3, 20)
		c.drain()
		c.append(3, 9)
		c.requireArrive(1, 2, 3, 4, 5, 6, 7, 8, 9)
	})
}
