package groups_test

import (
	"crypto/tls"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// traffic has two replicas send each other heartbeats and appends, and returns how many of them arrived.
type traffic struct {
	a, b  joined
	index uint64
}

// run sends for a number of tenths of a second, and returns what a and b got meanwhile, of twice as many.
func (tr *traffic) run(tenths int) (a, b int) {
	wasA, wasB := len(tr.a.raft.Received()), len(tr.b.raft.Received())
	for range tenths {
		tr.index++
		tr.a.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1), testmember.MsgApp(2, 1, tr.index, nil)})
		tr.b.Send([]*raftpb.Message{testmember.Heartbeat(1, 2, 1), testmember.MsgApp(1, 2, tr.index, nil)})
		time.Sleep(100 * time.Millisecond)
	}
	return len(tr.a.raft.Received()) - wasA, len(tr.b.raft.Received()) - wasB
}

// requireAll: all messages of a second arrive, and no loss is reported.
func (tr *traffic) requireAll(t *testing.T) {
	t.Helper()
	lost := tr.a.raft.Unreachables(2) + tr.b.raft.Unreachables(1)
	a, b := tr.run(10)
	require.Equal(t, []int{20, 20}, []int{a, b})
	require.Equal(t, lost, tr.a.raft.Unreachables(2)+tr.b.raft.Unreachables(1))
}

// TestANodeComesBackAsAnotherKind: as a stock member, and as a node again: then its groups have their streams, and snapshots, and in
// between a snapshot fails.
func TestANodeComesBackAsAnotherKind(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		ma := startNode(t, n, 1)
		a := join(t, ma, 7, saves(testmember.SavesAll))
		a.AddPeer(2, []string{testmember.URLOf(2)})
		for round := range uint64(3) {
			mb := startNode(t, n, 2)
			b := join(t, mb, 7, saves(testmember.SavesAll))
			b.AddPeer(1, []string{testmember.URLOf(1)})
			time.Sleep(3 * time.Second)
			(&traffic{a: a, b: b, index: 1000 * round}).requireAll(t)
			m, _ := small("database")
			a.SendSnapshot(m)
			require.True(t, <-m.CloseNotify())
			require.True(t, groupLane(t, ma, 2, "groupapp").Up)
			n.Host(testmember.HostOf(2)).Crash()
			mb.Stop()
			stock, store := startStock(t, n)
			for range 100 {
				a.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1)})
				time.Sleep(100 * time.Millisecond)
			}
			m, _ = small("database")
			a.SendSnapshot(m)
			require.False(t, <-m.CloseNotify())
			requireUntouched(t, stock, store)
			require.Zero(t, a.ActivePeers())
			n.Host(testmember.HostOf(2)).Crash()
			stock.Stop()
		}
	})
}

// TestAnotherNodeAtTheSameURL: a node is replaced by one with another id. It gets nothing that is for the former one, also if its groups
// have the same replicas, and is believed nothing about it; once it is known by its id, it is a node as any.
func TestAnotherNodeAtTheSameURL(t *testing.T) {
	for name, own := range map[string]bool{"Raft": false, "GroupReceiver": true} {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) { anotherNodeAtTheSameURL(t, n, own) })
		})
	}
}

func anotherNodeAtTheSameURL(t *testing.T, n *memnet.Network, own bool) {
	ma, mb := startNode(t, n, 1), startNode(t, n, 2)
	removed := make(chan error, 1)
	a := join(t, ma, 7, func(c *rafthttp.GroupConfig) { c.ErrorC = removed })
	b := join(t, mb, 7, nil)
	a.AddPeer(2, []string{testmember.URLOf(2)})
	b.AddPeer(1, []string{testmember.URLOf(1)})
	time.Sleep(time.Second)
	(&traffic{a: a, b: b}).requireAll(t)
	n.Host(testmember.HostOf(2)).Crash()
	mb.Stop()
	ln, err := n.Host(testmember.HostOf(2)).Listen("2380")
	require.NoError(t, err)
	s := &scheduler{messages: map[uint64][]*raftpb.Message{}, unreachable: map[uint64]int{}}
	mc := testmember.StartOn(t, ln, 5, func(tr *rafthttp.Transport) {
		tr.Raft, tr.DialContext = rafthttp.NoRaft{}, n.Host(testmember.HostOf(2)).DialContext
		if own {
			tr.GroupReceiver = s
		}
	})
	c := join(t, mc, 7, saves(testmember.SavesAll))
	c.AddPeer(1, []string{testmember.URLOf(1)})
	elsewhere := join(t, ma, 8, nil)
	elsewhere.AddPeer(2, []string{testmember.URLOf(2)})
	for range 100 {
		a.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1)})
		elsewhere.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1)})
		time.Sleep(100 * time.Millisecond)
	}
	require.Empty(t, c.raft.Received())
	require.Empty(t, append(s.of(7), s.of(8)...))
	require.GreaterOrEqual(t, a.raft.Unreachables(2), 5)
	require.Zero(t, a.ActivePeers())
	m, db := small("database")
	a.SendSnapshot(m)
	testmember.RequireEnd(t, m, db, false, a.raft, raft.SnapshotFailure)
	require.Empty(t, removed)
	a.RemovePeer(2)
	elsewhere.RemovePeer(2)
	a.AddPeer(5, []string{testmember.URLOf(2)})
	time.Sleep(3 * time.Second)
	a.Send([]*raftpb.Message{testmember.Heartbeat(5, 1, 1)})
	c.Send([]*raftpb.Message{testmember.Heartbeat(1, 5, 1)})
	time.Sleep(time.Second)
	require.Len(t, append(c.raft.Received(), s.of(7)...), 1)
	require.Equal(t, 1, a.ActivePeers())
}

// TestANodeMovesWhileItsStreamsAreUp: UpdatePeer of one group, or AddPeer of another with other URLs, moves the node for all of them, and
// messages of the other direction are not affected.
func TestANodeMovesWhileItsStreamsAreUp(t *testing.T) {
	for name, move := range map[string]func(a, other joined, urls []string){
		"UpdatePeer":         func(a, _ joined, urls []string) { a.UpdatePeer(2, urls) },
		"AddPeer":            func(a, _ joined, urls []string) { a.AddPeer(2, urls) },
		"AddPeer of another": func(_, other joined, urls []string) { other.AddPeer(2, urls) },
		"AddReplica and back": func(a, _ joined, urls []string) {
			a.UpdatePeer(2, []string{testmember.RefusingURL})
			a.UpdatePeer(2, urls)
		},
	} {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				var dials testmember.Dials
				ma := testmember.StartSimulated(t, n, 1, testmember.Tuned(noRaft, func(tr *rafthttp.Transport) { tr.DialContext = dials.Count(tr.DialContext) }))
				mb := startNode(t, n, 2)
				a, b := connect(t, ma, mb, 7, nil)
				other := join(t, ma, 8, nil)
				front(t, n, nil, passOn) // the new address
				time.Sleep(time.Second)
				tr := &traffic{a: a, b: b}
				tr.requireAll(t)
				lost := a.raft.Unreachables(2)
				move(a, other, []string{frontURL})
				time.Sleep(2 * time.Second)
				require.Equal(t, lost, a.raft.Unreachables(2), "nothing of ours was lost")
				before := dials.To("m2:2380")
				tr.requireAll(t)
				time.Sleep(time.Minute)
				tr.requireAll(t)
				require.Equal(t, before, dials.To("m2:2380"))
				require.NotZero(t, dials.To("front:2380"))
				require.Equal(t, []string{frontURL}, groupNode(t, ma, 2).URLs)
			})
		})
	}
}

// TestOneWayCutOfGroups: while a link is cut in one direction, the groups that send something there are told, and the other end knows that
// nothing comes; then all goes on.
func TestOneWayCutOfGroups(t *testing.T) {
	for name, cut := range map[string]types.ID{"from": 1, "to": 2} {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				ma, mb := startNode(t, n, 1), startNode(t, n, 2)
				a, b := connect(t, ma, mb, 7, nil)
				idle, _ := connect(t, ma, mb, 8, nil)
				time.Sleep(time.Second)
				tr := &traffic{a: a, b: b}
				tr.requireAll(t)
				n.Link(testmember.HostOf(cut), testmember.HostOf(3-cut)).Cut()
				tr.run(300)
				from, to := a, b // of the cut
				if cut == 2 {
					from, to = b, a
				}
				require.NotZero(t, from.raft.Unreachables(uint64(3-cut)))
				require.Zero(t, idle.raft.Unreachables(2))
				require.Zero(t, to.ActivePeers())
				before := len(to.raft.Received())
				tr.run(10)
				require.Len(t, to.raft.Received(), before)
				n.Link(testmember.HostOf(cut), testmember.HostOf(3-cut)).Mend()
				time.Sleep(5 * time.Second)
				tr.requireAll(t)
				require.Equal(t, 1, a.ActivePeers())
				require.Equal(t, 1, b.ActivePeers())
			})
		})
	}
}

// TestANodeIsRefused: VerifyPeer refuses one node from now on: its streams are cut in both directions, and neither they nor POSTs nor
// snapshots come any more; those of another node go on. When it is accepted again, so do its own.
func TestANodeIsRefused(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		var refused atomic.Bool
		ma := testmember.StartSimulated(t, n, 1, testmember.Tuned(noRaft, func(tr *rafthttp.Transport) {
			tr.VerifyPeer = func(id types.ID, _ *tls.ConnectionState) error {
				if id == 2 && refused.Load() {
					return errors.New("revoked")
				}
				return nil
			}
		}))
		mb, mc := startNode(t, n, 2), startNode(t, n, 3)
		a, b := connect(t, ma, mb, 7, nil)
		other := join(t, ma, 8, nil)
		c := join(t, mc, 8, nil)
		other.AddPeer(3, []string{testmember.URLOf(3)})
		c.AddPeer(1, []string{testmember.URLOf(1)})
		time.Sleep(time.Second)
		tr := &traffic{a: a, b: b}
		tr.requireAll(t)
		refused.Store(true)
		tr.run(120) // TLSRecheck is 10 s
		gotA, gotB := tr.run(300)
		require.Zero(t, gotA, "the node is refused")
		require.Zero(t, gotB, "the node is sent something")
		require.Zero(t, a.ActivePeers())
		m, db := small("database")
		a.SendSnapshot(m)
		testmember.RequireEnd(t, m, db, false, a.raft, raft.SnapshotFailure)
		for range 10 {
			other.Send([]*raftpb.Message{testmember.Heartbeat(3, 1, 1)})
			c.Send([]*raftpb.Message{testmember.Heartbeat(1, 3, 1)})
			time.Sleep(100 * time.Millisecond)
		}
		require.Len(t, other.raft.Received(), 10)
		require.Len(t, c.raft.Received(), 10)
		require.Zero(t, other.raft.Unreachables(3)+c.raft.Unreachables(1))
		refused.Store(false)
		time.Sleep(10 * time.Second)
		tr.requireAll(t)
	})
}

// TestTheFirstGroupComesLater: a Transport without groups, which may be a peer, gets no request for a group but probes, and its own messages
// are not affected. Once it has its first group the streams of groups are up within seconds, although nothing changes at the other node; and
// again, after the group was stopped, with the next one.
func TestTheFirstGroupComesLater(t *testing.T) {
	for name, peers := range map[string]bool{"a peer": true, "no peer": false} {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				ma, mb := testmember.StartSimulated(t, n, 1, nil), testmember.StartSimulated(t, n, 2, nil)
				paths := &asked{paths: map[string]int{}}
				mb.Server.Handler = paths.by(mb.Server.Handler)
				if peers {
					testmember.Connect(t, ma, mb)
				}
				a := join(t, ma, 7, nil)
				a.AddPeer(2, []string{testmember.URLOf(2)})
				before := ma.Recorder.Unreachables(2) + mb.Recorder.Unreachables(1)
				for i := range 600 { // 10 minutes
					a.Send(testmember.Heartbeats(1, 2, 1))
					ma.Send(testmember.Heartbeats(1, 2, 1))
					time.Sleep(time.Second)
					if peers {
						require.Len(t, mb.Recorder.Received(), i+1)
					}
				}
				require.Equal(t, before, ma.Recorder.Unreachables(2)+mb.Recorder.Unreachables(1))
				require.NotZero(t, a.raft.Unreachables(2))
				require.Zero(t, a.ActivePeers())
				require.Contains(t, groupNode(t, ma, 2).LastError, rafthttp.ErrNoGroups.Error())
				for path := range paths.counts() {
					require.NotContains(t, path, "group")
				}
				for range 2 {
					b := join(t, mb, 7, saves(testmember.SavesAll))
					b.AddPeer(1, []string{testmember.URLOf(1)})
					time.Sleep(3 * time.Second)
					require.Equal(t, 1, a.ActivePeers())
					require.Equal(t, 1, b.ActivePeers())
					(&traffic{a: a, b: b}).requireAll(t)
					require.Zero(t, groupLane(t, mb, 1, "grouppost").Messages)
					m, _ := small("database")
					a.SendSnapshot(m)
					require.True(t, <-m.CloseNotify())
					b.Stop()
					time.Sleep(10 * time.Second)
					require.Empty(t, mb.Status().Groups.Nodes)
				}
			})
		})
	}
}
