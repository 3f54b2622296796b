package groups_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// ofKind returns a message of a kind from replica 1 to replica 2.
func ofKind(k queue.Kind, index uint64, bytes int) *raftpb.Message {
	switch k {
	case queue.Append:
		return testmember.MsgApp(2, 1, index, make([]byte, bytes))
	case queue.Proposal:
		return &raftpb.Message{Type: raftpb.MsgProp.Enum(), To: new(uint64(2)), From: new(uint64(1)), Entries: []*raftpb.Entry{{Data: make([]byte, bytes)}}}
	default:
		return testmember.Heartbeat(2, 1, index)
	}
}

// delays measures how long heartbeats and appends take: each has the time of its Send as its commit index.
type delays struct {
	n     atomic.Int64
	most  atomic.Int64 // nanoseconds
	beats atomic.Int64 // the same, of heartbeats only
}

func (d *delays) process(_ context.Context, m *raftpb.Message) error {
	took := time.Now().UnixNano() - int64(m.GetCommit())
	note := func(of *atomic.Int64) {
		for most := of.Load(); took > most && !of.CompareAndSwap(most, took); most = of.Load() {
		}
	}
	if note(&d.most); m.GetType() == raftpb.MsgHeartbeat {
		note(&d.beats)
	}
	d.n.Add(1)
	return nil
}

const goodGroups = 20

// among starts two nodes with good groups, which send a heartbeat and an append every 100 ms, and bad ones, on which bad acts for
// 10 s. It returns what the messages of the good ones took.
func among(t *testing.T, n *memnet.Network, bads int, process func(context.Context, *raftpb.Message) error, bad func(g *rafthttp.Group)) *delays {
	return amongOf(t, n, bads, process, bad, addSender)
}

// addSender makes the sender of messages a replica of a group.
func addSender(g *rafthttp.Group) { g.AddPeer(1, []string{testmember.URLOf(1)}) }

// amongOf is among with bad groups that are prepared by add.
func amongOf(t *testing.T, n *memnet.Network, bads int, process func(context.Context, *raftpb.Message) error, bad, add func(g *rafthttp.Group)) *delays {
	ma, mb := startNode(t, n, 1), startNode(t, n, 2)
	d := new(delays)
	var senders []*rafthttp.Group
	for id := uint64(1); id <= uint64(goodGroups+bads); id++ {
		a := join(t, ma, id, nil)
		a.AddPeer(2, []string{testmember.URLOf(2)})
		senders = append(senders, a.Group)
		rec := &testmember.Recorder{OnProcess: d.process}
		addTo := addSender
		if id > goodGroups {
			rec.OnProcess, addTo = process, add
		}
		b, err := mb.Group(id, rafthttp.GroupConfig{Raft: rec})
		require.NoError(t, err)
		addTo(b)
	}
	time.Sleep(time.Second)
	for i := range 100 {
		for _, g := range senders[goodGroups:] {
			bad(g)
		}
		for _, g := range senders[:goodGroups] {
			now := uint64(time.Now().UnixNano())
			g.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, now), {
				Type: raftpb.MsgApp.Enum(), To: new(uint64(2)), From: new(uint64(1)), Term: new(uint64(1)), LogTerm: new(uint64(1)),
				Index: new(uint64(i)), Commit: &now, Entries: []*raftpb.Entry{{Term: new(uint64(1)), Index: new(uint64(i + 1)), Data: []byte("data")}},
			}})
		}
		time.Sleep(100 * time.Millisecond)
	}
	return d
}

// blocks is a Process that does not return before its context ends.
func blocks(ctx context.Context, _ *raftpb.Message) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

// TestBlockedGroupDelaysNoOther: a group whose Process blocks on messages of one kind, whichever, delays no other group.
func TestBlockedGroupDelaysNoOther(t *testing.T) {
	for k := range queue.Kinds {
		t.Run(k.String(), func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				d := among(t, n, 1, blocks, func(g *rafthttp.Group) { g.Send([]*raftpb.Message{ofKind(k, 1, 10)}) })
				require.EqualValues(t, 2*100*goodGroups, d.n.Load())
				require.Less(t, time.Duration(d.most.Load()), 50*time.Millisecond)
			})
		})
	}
}

// TestFloodsOfBlockedGroupsDelayNoOther: groups whose Process blocks on what fills their part of a receive queue, in messages or in
// bytes, do not delay the others, and cost them no message.
func TestFloodsOfBlockedGroupsDelayNoOther(t *testing.T) {
	tests := map[string]struct{ bads, messages, size int }{
		"2 groups":       {2, 4096, 10},
		"30 groups":      {30, 256, 10},
		"2 groups bytes": {2, 64, 1 << 20},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				sent := map[*rafthttp.Group]int{}
				d := among(t, n, test.bads, blocks, func(g *rafthttp.Group) {
					for range max(test.messages/64, 1) {
						if sent[g]++; sent[g] <= test.messages {
							g.Send([]*raftpb.Message{ofKind(queue.Append, uint64(sent[g]), test.size)})
						}
					}
				})
				require.EqualValues(t, 2*100*goodGroups, d.n.Load())
				require.Less(t, time.Duration(d.most.Load()), 50*time.Millisecond)
			})
		})
	}
}

// TestSlowDisksDelayOthersLittle: a stream waits for a group whose Process is slow, by a few calls of it.
func TestSlowDisksDelayOthersLittle(t *testing.T) {
	slow := func(_ context.Context, m *raftpb.Message) error {
		if m.GetType() == raftpb.MsgApp {
			time.Sleep(10 * time.Millisecond)
		}
		return nil
	}
	payload := make([]byte, 1<<20)
	for _, bads := range []int{1, 20} {
		testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
			index := uint64(0)
			d := among(t, n, bads, slow, func(g *rafthttp.Group) {
				for range 20 {
					index++
					g.Send([]*raftpb.Message{testmember.MsgApp(2, 1, index, payload)})
				}
			})
			require.EqualValues(t, 2*100*goodGroups, d.n.Load())
			require.LessOrEqual(t, time.Duration(d.most.Load()), 50*time.Millisecond)
		})
	}
}

// TestProposalsOfAThousandGroupsWithoutALeader: all block at once, and no heartbeat of any group waits for them.
func TestProposalsOfAThousandGroupsWithoutALeader(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		d := new(delays)
		process := func(ctx context.Context, m *raftpb.Message) error {
			if m.GetType() == raftpb.MsgProp {
				return blocks(ctx, m)
			}
			return d.process(ctx, m)
		}
		good := among(t, n, 1000, process, func(g *rafthttp.Group) {
			g.Send([]*raftpb.Message{ofKind(queue.Proposal, 0, 10), testmember.Heartbeat(2, 1, uint64(time.Now().UnixNano()))})
		})
		require.EqualValues(t, 2*100*goodGroups, good.n.Load())
		require.Less(t, time.Duration(good.most.Load()), 50*time.Millisecond)
		require.EqualValues(t, 100*1000, d.n.Load())
		require.Less(t, time.Duration(d.most.Load()), 50*time.Millisecond)
	})
}

// TestFloodsOfFiveNodes: the streams of five nodes wait for a slow group each, and each for a tenth of the time; no node costs the others of
// its group, or of others, anything.
func TestFloodsOfFiveNodes(t *testing.T) {
	const size, takes, nodes, most = 1000, 10 * time.Millisecond, 5, 150 * time.Millisecond
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		to := startNode(t, n, 2)
		d := new(delays)
		var slow atomic.Int64
		var good, bad []*rafthttp.Group
		for i := range uint64(nodes) {
			id := i + 3
			from := startNode(t, n, types.ID(id))
			for group := 10 * id; group < 10*id+3; group++ { // the first one is slow
				rec := &testmember.Recorder{OnProcess: d.process}
				if group%10 == 0 {
					rec.OnProcess = func(context.Context, *raftpb.Message) error {
						slow.Add(1)
						time.Sleep(takes)
						return nil
					}
				}
				b, err := to.Group(group, rafthttp.GroupConfig{Raft: rec})
				require.NoError(t, err)
				b.AddPeer(types.ID(id), []string{testmember.URLOf(types.ID(id))})
				a := join(t, from, group, nil)
				a.AddPeer(2, []string{testmember.URLOf(2)})
				if group%10 == 0 {
					bad = append(bad, a.Group)
				} else {
					good = append(good, a.Group)
				}
			}
		}
		time.Sleep(time.Second)
		for i := range uint64(100) {
			for k, g := range bad {
				for j := range uint64(300) {
					g.Send([]*raftpb.Message{testmember.MsgApp(2, types.ID(k+3), 300*i+j+1, make([]byte, size))})
				}
			}
			for k, g := range good {
				from, now := uint64(k/2+3), uint64(time.Now().UnixNano())
				m := testmember.MsgApp(2, types.ID(from), i+1, []byte("data"))
				m.Commit = &now
				g.Send([]*raftpb.Message{testmember.Heartbeat(2, types.ID(from), now), m})
			}
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(most)
		require.Greater(t, slow.Load(), int64(nodes*900), "there was no flood")
		require.EqualValues(t, 2*100*len(good), d.n.Load())
		require.Less(t, time.Duration(d.beats.Load()), 50*time.Millisecond)
		require.Less(t, time.Duration(d.most.Load()), most)
	})
}

// TestFloodOfAGroupDelaysNoOther: a group that sends more appends or proposals than its node takes is limited to its
// share: the others lose nothing, and their heartbeats are not delayed. Their appends wait for its slow Process for
// a tenth of the time, also if the group does not have the replica that sends them.
func TestFloodOfAGroupDelaysNoOther(t *testing.T) {
	const size, takes = 1000, 10 * time.Millisecond
	for name, c := range map[string]struct {
		kind queue.Kind
		add  func(g *rafthttp.Group)
		most time.Duration
	}{
		"append":                 {queue.Append, addSender, 150 * time.Millisecond},
		"append of a stranger":   {queue.Append, func(*rafthttp.Group) {}, 150 * time.Millisecond},
		"proposal":               {queue.Proposal, addSender, 50 * time.Millisecond},
		"proposal of a stranger": {queue.Proposal, func(*rafthttp.Group) {}, 50 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				var processed atomic.Int64
				slow := func(context.Context, *raftpb.Message) error {
					processed.Add(1)
					time.Sleep(takes)
					return nil
				}
				index := uint64(0)
				d := amongOf(t, n, 1, slow, func(g *rafthttp.Group) {
					for range 600 { // 10 are taken meanwhile; the queue has room for 4,096
						index++ // or an append would be known to be under way
						g.Send([]*raftpb.Message{ofKind(c.kind, index, size)})
					}
				}, c.add)
				time.Sleep(c.most)
				require.Greater(t, processed.Load(), int64(900), "there was no flood")
				require.EqualValues(t, 2*100*goodGroups, d.n.Load())
				require.Less(t, time.Duration(d.beats.Load()), 50*time.Millisecond)
				require.Less(t, time.Duration(d.most.Load()), c.most)
			})
		})
	}
}
