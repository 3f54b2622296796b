package followers_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet/rafttest"
)

// congestion is something that happens while appends fill the queue of a slow
// follower. At its end the follower lacks some entries: it must have them, and be
// as quick as before, soon after a good line could have brought them.
type congestion struct {
	name  string
	event func(t *testing.T, c *raftCluster)
	stale time.Duration // the line carries what is of no use any more
	via   string        // the lane that most appends take in the end; empty: any
}

// All is a sixteenth of what it is in TestSlowFollower: the same times with less data.
const (
	congestedEntry   = 64 << 10
	congestedEntries = 150 // more than twice what a queue holds
	congestedQueue   = 4 << 20
)

var congestedLine = line{rate: 1.25e6, rtt: 40 * time.Millisecond, window: 256 << 10}

// fullQueue is how long it takes to send what a queue and a connection hold.
var fullQueue = transmission(congestedQueue+congestedLine.window, congestedLine.rate)

// recovery is how long a follower may take beyond what its missing entries need: the
// read timeout, after which what was not acknowledged is taken for lost, and a bit.
const recovery = testmember.ReadTimeout + 2*time.Second

// racedCongestions: one in so many is run with the race detector, which takes a second for
// each, and all without it.
const racedCongestions = 16

func TestCongestedFollower(t *testing.T) {
	testmember.SkipWithTinyBuffers(t)
	for i, g := range congestions {
		t.Run(g.name, func(t *testing.T) {
			if testmember.RaceEnabled && i%racedCongestions != 0 {
				t.Skip("is run without the race detector")
			}
			bubble.Test(t, func(t *testing.T) {
				c := newCongested(t)
				g.event(t, c)
				c.requireRecovery(t, congestedEntry, congestedLine.rate, g.stale)
				for _, l := range c.leader().peer(theFollower).Lanes {
					if l.Name == g.via {
						require.Greater(t, l.Bytes, uint64(congestedEntries*congestedEntry/2))
					}
				}
			})
		})
	}
}

// newCongested returns a cluster whose leader has a full queue for the follower.
func newCongested(t *testing.T) *raftCluster {
	t.Helper()
	tune := func(cfg *raft.Config) { cfg.MaxSizePerMsg = congestedEntry }
	c := newRaftCluster(t, congestedLine.window, tune, func(tr *rafthttp.Transport) {
		tr.SendQueueBytes, tr.ReceiveQueueBytes = congestedQueue, congestedQueue
	})
	c.connect(nearLine, congestedLine)
	require.NoError(t, c.leader().load(t.Context(), congestedEntries, congestedEntry, 0))
	time.Sleep(time.Second)
	require.NotZero(t, c.leader().drops(theFollower), "the queue never was full")
	return c
}

// requireRecovery requires that the follower gets all that the leader has in time, and
// then a lone entry at once.
func (c *raftCluster) requireRecovery(t *testing.T, entry, rate int, stale time.Duration) {
	t.Helper()
	carried := c.follower().peer(theLeader).ReceivedBytes + c.follower().peer(2).ReceivedBytes
	left := c.leading(t).lastIndex() - min(c.leading(t).lastIndex(), c.follower().lastIndex())
	ideal := transmission(int(left)*entry, rate) + stale
	start := time.Now()
	for !c.caughtUp(t) {
		if since := time.Since(start); since > ideal+recovery {
			leader := c.leading(t)
			require.FailNow(t, "did not catch up", "in %v, where the line needs %v: it has %d of %d; %+v", since, ideal,
				c.follower().lastIndex(), leader.lastIndex(), leader.node.Status().Progress[theFollower])
		}
		time.Sleep(10 * time.Millisecond) // to ask raft for its state costs much
	}
	took := time.Since(start)
	carried = c.follower().peer(theLeader).ReceivedBytes + c.follower().peer(2).ReceivedBytes - carried
	require.NoError(t, c.leading(t).node.Propose(t.Context(), payload[:1]))
	start = time.Now()
	testmember.Within(t, stale+recovery, func() bool { return c.caughtUp(t) })
	t.Logf("caught up in %.2f s, where the line needs %.2f s (%d MiB for %d); the next entry in %v",
		took.Seconds(), ideal.Seconds(), carried>>20, int(left)*entry>>20, time.Since(start).Round(time.Millisecond))
	require.Less(t, time.Since(start), stale+time.Second, "for a lone entry")
}

// leading is the member that leads now.
func (c *raftCluster) leading(t *testing.T) *raftMember {
	t.Helper()
	var leader *raftMember
	testmember.Within(t, 5*time.Second, func() bool {
		for _, m := range c.members[1:] {
			if m.node.Status().RaftState == raft.StateLeader && (leader == nil || m.term() > leader.term()) {
				leader = m
			}
		}
		return leader != nil
	})
	return leader
}

func (m *raftMember) term() uint64 { return m.node.Status().GetTerm() }

// caughtUp says whether the follower has the leader's log, and has committed it.
func (c *raftCluster) caughtUp(t *testing.T) bool {
	t.Helper()
	leader, follower := c.leading(t), c.follower()
	last := leader.lastIndex()
	if follower.lastIndex() != last {
		return false
	}
	want, _ := leader.log.Term(last)
	got, _ := follower.log.Term(last)
	return got == want && follower.node.Status().GetCommit() == last
}

// drop has the follower lose appends that match, until undo is called. What it is
// told is what Process returns.
func (m *raftMember) drop(err error, match func(*raftpb.Message) bool) (undo func()) {
	m.slow(func(_ context.Context, msg *raftpb.Message) error {
		if msg.GetType() == raftpb.MsgApp && match(msg) {
			return errLostAppend{err}
		}
		return nil
	})
	return func() { m.slow(nil) }
}

// errLostAppend has Process drop the message and return the error in it.
type errLostAppend struct{ error }

// once matches the first message that f does.
func once(f func(*raftpb.Message) bool) func(*raftpb.Message) bool {
	var done atomic.Bool
	return func(msg *raftpb.Message) bool { return f(msg) && !done.Swap(true) }
}

func hasEntries(msg *raftpb.Message) bool { return len(msg.GetEntries()) > 0 }

var errDisk = errors.New("disk full")

// loseAcks has what the follower answers to appends lost behind the leader's transport,
// for d.
func loseAcks(c *raftCluster, d time.Duration, match func(*raftpb.Message) bool) {
	undo := c.Apply(rafttest.Rule{
		From: theFollower, To: theLeader, Types: []raftpb.MessageType{raftpb.MsgAppResp}, Match: match, Loss: 1,
	})
	time.Sleep(d)
	undo()
}

// crash ends a member as kill -9 does. Its log is what is left.
func (c *raftCluster) crash(id uint64) *raft.MemoryStorage {
	m := c.members[id]
	m.transport.Crash()
	m.stop()
	return m.log
}

// transfer has another member lead.
func (c *raftCluster) transfer(t *testing.T, to uint64) {
	t.Helper()
	from := c.leading(t)
	from.node.TransferLeadership(t.Context(), from.id, to)
	testmember.Within(t, 5*time.Second, func() bool { return c.members[to].node.Status().RaftState == raft.StateLeader })
}

// compact has a member forget the entries that it has applied, so that a follower that
// lacks one needs a snapshot.
func (m *raftMember) compact(t *testing.T) {
	t.Helper()
	last := m.node.Status().Applied
	if first, _ := m.log.FirstIndex(); last < first {
		return
	}
	_, err := m.log.CreateSnapshot(last, &raftpb.ConfState{Voters: []uint64{1, 2, 3}}, []byte("state"))
	require.NoError(t, err)
	require.NoError(t, m.log.Compact(last))
}

// change changes the voters.
func (c *raftCluster) change(t *testing.T, what raftpb.ConfChangeType, id uint64) {
	t.Helper()
	leader := c.leading(t)
	require.NoError(t, leader.node.ProposeConfChange(t.Context(), &raftpb.ConfChangeV2{
		Changes: []*raftpb.ConfChangeSingle{{Type: what.Enum(), NodeId: new(id)}},
	}))
	testmember.Within(t, 5*time.Second, func() bool {
		_, is := leader.node.Status().Config.Voters.IDs()[id]
		return is == (what == raftpb.ConfChangeAddNode)
	})
}

// replaceDisk removes the follower from the group, and adds it with an empty log.
func (c *raftCluster) replaceDisk(t *testing.T, peersToo bool) {
	t.Helper()
	c.change(t, raftpb.ConfChangeRemoveNode, theFollower)
	c.crash(theFollower)
	if peersToo {
		for _, m := range c.members[1:theFollower] {
			m.transport.RemovePeer(theFollower)
			m.transport.AddPeer(theFollower, []string{rafttest.URL(theFollower)})
		}
	}
	c.change(t, raftpb.ConfChangeAddNode, theFollower)
	c.start(theFollower).startClock()
}

// pause has the leader's transport deaf and mute towards the follower.
func (c *raftCluster) pause(d time.Duration) {
	p := c.leader().transport.Get(theFollower).(rafthttp.Pausable)
	p.Pause()
	time.Sleep(d)
	p.Resume()
}
