package groups

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/queue"
	"github.com/seed-4d73690b/rafthttp/internal/stream"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// indexes is a Raft that notes the indexes of messages of replica 2, and blocks at one of any other.
type indexes struct {
	mu    sync.Mutex
	all   []uint64
	begun chan struct{}
	letGo chan struct{}
}

func (s *indexes) Process(_ context.Context, m *raftpb.Message) error {
	if m.GetFrom() != 2 {
		close(s.begun)
		<-s.letGo
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, m.GetIndex())
	return nil
}

func (*indexes) IsIDRemoved(uint64) bool                    { return false }
func (*indexes) ReportUnreachable(uint64)                   {}
func (*indexes) ReportSnapshot(uint64, raft.SnapshotStatus) {}

// fromReplica returns an append of a replica.
func fromReplica(id, index uint64) stream.GroupItem {
	m := appendAfter(index)
	m.From, m.To = new(id), new(uint64(1))
	return stream.GroupItem{Group: 7, Msg: m, Size: wire.MemorySize(m)}
}

// TestStrangerThatIsAddedWhileAMessageWaitsForRoom: that message is not processed after later ones of the replica, also if the replica is a
// stranger again by then, or has been added again.
func TestStrangerThatIsAddedWhileAMessageWaitsForRoom(t *testing.T) {
	for _, again := range []bool{false, true} {
		n := newTestNode(t, roomy, nil)
		gs, asking := n.groups, sync.WaitGroup{}
		n.users, gs.cfg.Asking = 10, &asking
		s := &indexes{begun: make(chan struct{}), letGo: make(chan struct{})}
		g := new(Group)
		require.NoError(t, gs.Join(g, 7, 1, App{Raft: s}))
		pool := gs.pools[queue.Append]
		idle := func(held int) {
			for pool.Status().Held > held {
				runtime.Gosched()
			}
		}
		add := func() {
			g.mu.Lock()
			defer g.mu.Unlock()
			r := newReplica(g, 2, n)
			n.add(r)
			g.put(r, nil)
		}
		noRefusals := func(uint64, *raftpb.Message, wire.RefusalReason) {}
		receive := func(it stream.GroupItem) {
			require.NoError(t, gs.receive(t.Context(), 5, n, []stream.GroupItem{it}, 0, noRefusals))
		}
		waits := fromReplica(2, 5)
		in := gs.inboxOf(g, n, queue.Append, waits, noRefusals)
		require.NotNil(t, in)
		add()
		receive(fromReplica(2, 6))
		idle(0)
		g.Remove(2)
		if again {
			receive(fromReplica(3, 1))
			<-s.begun
		} else {
			close(s.begun)
		}
		require.Equal(t, queue.Accepted, pool.Offer(in, waits.Msg, waits.Size, false))
		receive(fromReplica(2, 7))
		if again {
			add()
		}
		close(s.letGo)
		idle(0)
		require.Equal(t, []uint64{6, 7}, s.all)
		dropped := g.drops().received.Dropped()
		require.EqualValues(t, 1, dropped[queue.DropEnded], "the one that came late")
		g.Leave()
		asking.Wait()
		closePools(gs)
	}
}

// TestRemovedReplicasAreForgotten: those of which nothing was heard for long make room for others.
func TestRemovedReplicasAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s sender
		for id := range uint64(maxRemoved) {
			s.noteRemoved(id)
		}
		for range 2 * maxRemoved {
			s.noteRemoved(1)
		}
		require.Len(t, s.more().removed, maxRemoved)
		time.Sleep(tellRemoved / 2)
		s.noteRemoved(1)
		time.Sleep(tellRemoved / 2)
		for id := uint64(1000); id < 1000+maxRemoved-1; id++ {
			s.noteRemoved(id)
		}
		require.True(t, s.wasRemoved(1))
		for id := uint64(1000); id < 1000+maxRemoved-1; id++ {
			require.True(t, s.wasRemoved(id))
		}
		s.noteRemoved(2000)
		s.noteRemoved(2001)
		require.Len(t, s.more().removed, maxRemoved)
		time.Sleep(tellRemoved)
		s.noteRemoved(2002)
		require.Len(t, s.more().removed, 1)
	})
}

// TestDropsOfAGroupThatHasEnded: what a worker has taken when the group ends is no drop of its node.
func TestDropsOfAGroupThatHasEnded(t *testing.T) {
	n := newTestNode(t, roomy, nil)
	n.users = 10
	g := new(Group)
	require.NoError(t, n.groups.Join(g, 7, 1, App{Raft: &indexes{}}))
	r := newReplica(g, 2, n)
	n.add(r)
	g.replicas.put(r, nil)
	g.Leave()
	late := fromReplica(2, 5).Msg
	r.in.process(queue.Append, late)
	snapshot := &raftpb.Message{Type: raftpb.MsgSnap.Enum(), From: new(uint64(2)), To: new(uint64(1))}
	ticket := queue.NewTicket(g.context(), snapshotLane)
	require.True(t, ticket.Claim()) // the request has given up, since the group has ended
	n.groups.tickets.Store(snapshot, ticket)
	r.in.process(queue.Append, snapshot)
	all, ofNode := g.drops().received.Dropped(), n.shares[queue.Append].Drops.Dropped()
	require.EqualValues(t, 2, all.Total())
	require.Zero(t, ofNode.Total())
	closePools(n.groups)
}
