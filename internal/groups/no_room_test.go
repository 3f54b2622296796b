package groups

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/queue"
	"github.com/seed-4d73690b/rafthttp/internal/stream"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// standing is a Raft whose Process does not return until letGo is closed.
type standing struct {
	indexes
	begun chan struct{}
}

func (s *standing) Process(context.Context, *raftpb.Message) error {
	s.begun <- struct{}{}
	<-s.letGo
	return nil
}

// TestStrangerThatIsAddedWhereThereIsNoRoom: messages that wait for Process of a stranger, and find no room among those of its node once it
// is added, are counted as dropped, with the group and with the node.
func TestStrangerThatIsAddedWhereThereIsNoRoom(t *testing.T) {
	n := newTestNode(t, queue.Limits{Messages: 16, Bytes: 1 << 20}, nil)
	gs, pool := n.groups, n.groups.pools[queue.Append]
	var asking sync.WaitGroup
	n.users, gs.cfg.Asking = 100, &asking
	s := &standing{indexes{letGo: make(chan struct{})}, make(chan struct{}, 100)}
	g := new(Group)
	require.NoError(t, gs.Join(g, 7, 1, App{Raft: s}))
	receive := func(it stream.GroupItem) {
		require.NoError(t, gs.receive(t.Context(), 5, n, []stream.GroupItem{it}, 0, func(uint64, *raftpb.Message, wire.RefusalReason) {}))
	}
	add := func(id uint64) *replica {
		g.mu.Lock()
		defer g.mu.Unlock()
		r := newReplica(g, id, n)
		n.add(r)
		g.put(r, nil)
		return r
	}
	receive(fromReplica(3, 1))
	<-s.begun
	receive(fromReplica(2, 5))
	receive(fromReplica(2, 6))
	for id := uint64(10); id < 30; id++ { // which block as well
		in := add(id).in.box(queue.Append)
		for v := queue.Accepted; v == queue.Accepted; {
			it := fromReplica(id, 1)
			v = pool.Offer(in, it.Msg, it.Size, false)
		}
	}
	before := g.drops().received.Dropped()
	require.Zero(t, before.Total())
	add(2)
	ofGroup, ofNode := g.drops().received.Dropped(), n.shares[queue.Append].Drops.Dropped()
	require.EqualValues(t, 2, ofGroup[queue.DropQueueFull])
	require.EqualValues(t, 2, ofNode[queue.DropQueueFull])
	close(s.letGo)
	g.Leave()
	asking.Wait()
	closePools(gs)
}
