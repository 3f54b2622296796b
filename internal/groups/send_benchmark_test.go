package groups

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/fair"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
)

// sendAppends returns a function that sends an append in each place of n groups, in calls of some of them, and takes and releases
// all.
func sendAppends(t testing.TB, groups, calls, some int) (round func()) {
	n := newTestNode(t, queue.Limits{Messages: 1 << 20, Bytes: 1 << 40, Shared: queue.NewBudget(1 << 40)}, nil)
	all, loads := make([]*Group, groups), make([][][]*raftpb.Message, groups)
	for i := range all {
		all[i] = newTestReplica(n, nil).group()
		for c := range calls {
			batch := make([]*raftpb.Message, some)
			for k := range batch {
				batch[k] = appendAfter(uint64(c*some + k))
			}
			loads[i] = append(loads[i], batch)
		}
	}
	q, items := n.writers[appends].Queue, []fair.Item(nil)
	require.True(t, q.AcquireWorker())
	return func() {
		for c := range calls {
			for i, g := range all {
				g.Send(loads[i][c])
			}
			for q.HasMessages() {
				items, _ = q.Take(items, 1024, 256<<10)
				q.Release(items)
				clear(items)
			}
		}
	}
}

// BenchmarkSendAppends is what an append costs from Send of its group to its release by the writer, without encoding and writing it.
func BenchmarkSendAppends(b *testing.B) {
	for _, c := range []struct{ groups, calls, some int }{{1, 8, 512}, {48, 8, 10}, {1000, 2, 1}} {
		b.Run(fmt.Sprintf("%dx%d", c.groups, c.some), func(b *testing.B) {
			round := sendAppends(b, c.groups, c.calls, c.some)
			b.ReportAllocs()
			for i := 0; i < b.N; i += c.groups * c.calls * c.some {
				round()
			}
		})
	}
}

// BenchmarkSendHeartbeats is what a heartbeat costs in Send if each of ten thousand groups sends one to two replicas.
func BenchmarkSendHeartbeats(b *testing.B) {
	const groups = 10_000
	nodes, all := []*node{newTestNode(b, roomy, nil), newTestNode(b, roomy, nil)}, make([]*Group, groups)
	for i := range all {
		all[i] = newTestReplica(nodes[0], nil).group()
		r := newReplica(all[i], 3, nodes[1])
		nodes[1].add(r)
		all[i].replicas.put(r, nil)
	}
	msgs, items := []*raftpb.Message{messageTo(2, raftpb.MsgHeartbeat), messageTo(3, raftpb.MsgHeartbeat)}, []fair.Item(nil)
	for _, n := range nodes {
		require.True(b, n.writers[messages].Queue.AcquireWorker())
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; i < b.N; i += 2 * groups {
		for _, g := range all {
			g.Send(msgs)
		}
		b.StopTimer()
		for _, n := range nodes {
			for q := n.writers[messages].Queue; q.HasMessages(); clear(items) {
				items, _ = q.Take(items, 1024, 0)
				q.Release(items)
			}
		}
		b.StartTimer()
	}
}
