package stream

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/fair"
	"github.com/seed-4d73690b/rafthttp/internal/member"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
)

// TestReleasedWithoutConnection: whatever was taken from the queue is reported released, also if it is lost: appends were withheld until then,
// and the queue may be open again by now.
func TestReleasedWithoutConnection(t *testing.T) {
	var wg sync.WaitGroup
	var lost, released []fair.Item
	m := &member.Member{Cfg: &member.Config{SendLimits: queue.Limits{Messages: 8, Bytes: 1 << 20}}, Ctx: t.Context(), Wait: &wg}
	w := NewGroupWriter(m, GroupAppend, GroupEvents{
		Lose: func(_ *fair.SendQueue, items []fair.Item, cause error) {
			require.Equal(t, errs.ErrPeerGone, cause)
			lost = append(lost, items...)
		},
		Released: func(q *fair.SendQueue, items []fair.Item) {
			require.Zero(t, q.Held(items[0].Flow).Messages)
			released = append(released, items...)
		},
	})
	w.Queue.Open()
	require.True(t, w.Queue.AcquireWorker()) // the caller
	var f fair.Flow
	require.Equal(t, queue.Accepted, w.Queue.Offer(&f, &raftpb.Message{Type: raftpb.MsgApp.Enum()}, 100, false))
	items, _ := w.Queue.Take(nil, 8, 0)
	w.writeItems(items)
	w.writeItems(nil) // a heartbeat that was due
	require.Len(t, lost, 1)
	require.Equal(t, lost, released)
}
