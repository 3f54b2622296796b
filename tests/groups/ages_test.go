package groups_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/statuspage"
)

// TestOldMessagesOfGroups: appends of one group that wait for a slow line are a problem of its node, which the status page shows as
// well, since when they are old; and no more once they have left.
func TestOldMessagesOfGroups(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		ma, mb := startNode(t, n, 1), startNode(t, n, 2)
		a, b := connect(t, ma, mb, 7, nil)
		time.Sleep(time.Second)
		require.Empty(t, ma.Health().Problems)
		n.Link(testmember.HostOf(1), testmember.HostOf(2)).SetBandwidth(testmember.MiB)
		start := time.Now()
		for i := range uint64(16) {
			a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, i, make([]byte, testmember.MiB))})
		}
		for time.Since(start) < 10*time.Second {
			time.Sleep(time.Second)
			// The one on the wire has waited for all those before it.
			l := groupLane(t, ma, 2, "groupapp")
			require.Equal(t, time.Since(start), l.OldestAge.Round(10*time.Millisecond))
			if l.OldestAge < 2*time.Second {
				require.Zero(t, l.OldSince)
				require.Empty(t, ma.Health().Problems)
				continue
			}
			waited := fmt.Sprintf("%.1f s", time.Since(start).Seconds())
			if time.Since(start) == 10*time.Second {
				waited = "10 s"
			}
			require.WithinDuration(t, start, l.OldSince, 10*time.Millisecond)
			require.Equal(t, []rafthttp.Problem{{
				Severity: rafthttp.SeverityWarning, Kind: "queue_old", Peer: 2, Groups: true, Lane: "groupapp", Since: l.OldSince,
				Cause: "queue groupapp (appends to it) has a message that has waited for " + waited, Anchor: "a-lane-is-slow",
			}}, ma.Health().Problems)
		}
		page := httptest.NewRecorder()
		statuspage.Handler(ma.Transport, nil).ServeHTTP(page, httptest.NewRequest("GET", "/?format=text", nil))
		require.Contains(t, page.Body.String(), "! queue groupapp (appends to it) has a message that has waited for 10 s (since 10 s ago)")
		require.Regexp(t, `groupapp +up +6/4096 +6.00 MiB +9 % +10 s `, page.Body.String())
		time.Sleep(10 * time.Second)
		require.Len(t, b.raft.Received(), 16)
		require.Zero(t, groupLane(t, ma, 2, "groupapp").OldestAge)
		require.Empty(t, ma.Health().Problems)
	})
}

// TestOldReceivedMessagesOfGroups: messages that wait for a slow Process are a problem of the node that sent them. Those that wait for one
// that blocks are not: the problem is the group.
func TestOldReceivedMessagesOfGroups(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		var took atomic.Int64
		ma, mb := startNode(t, n, 1), startNode(t, n, 2)
		a := join(t, ma, 7, nil)
		b := join(t, mb, 7, func(cfg *rafthttp.GroupConfig) {
			cfg.Raft = &testmember.Recorder{OnProcess: func(context.Context, *raftpb.Message) error {
				time.Sleep(time.Duration(took.Load()))
				return nil
			}}
		})
		a.AddPeer(2, []string{testmember.URLOf(2)})
		b.AddPeer(1, []string{testmember.URLOf(1)})
		for _, tt := range []struct {
			took time.Duration
			want map[string]string // cause by kind
		}{
			{800 * time.Millisecond, map[string]string{"queue_old": "queue control (heartbeats, votes, responses from it) has a message that has waited for 3.5 s"}},
			{time.Minute, map[string]string{"groups_blocked": "Process blocks for control messages of raft groups: 1 call, the longest for 3.5 s by group 7"}},
		} {
			time.Sleep(10 * time.Minute)
			require.Empty(t, mb.Health().Problems)
			took.Store(int64(tt.took))
			a.Send(testmember.Heartbeats(1, 2, 8))
			time.Sleep(3500 * time.Millisecond)
			got := map[string]string{}
			for _, p := range mb.Health().Problems {
				require.Equal(t, "control", p.Lane)
				require.WithinDuration(t, time.Now().Add(-3500*time.Millisecond), p.Since, 10*time.Millisecond)
				got[p.Kind] = p.Cause
			}
			require.Equal(t, tt.want, got)
			require.Positive(t, groupLane(t, mb, 1, "control").Queued)
		}
	})
}

// TestFullQueuesOfGroups: it is said since when a queue that groups share is full, also if their calls of Process block.
func TestFullQueuesOfGroups(t *testing.T) {
	const groups = 20
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		release := make(chan struct{})
		ma := startNode(t, n, 1)
		mb := testmember.StartSimulated(t, n, 2, func(tr *rafthttp.Transport) { tr.Raft, tr.ReceiveQueueMessages = rafthttp.NoRaft{}, groups })
		var as []joined
		for id := range uint64(groups) {
			a, b := connect(t, ma, mb, id+1, nil)
			b.raft.OnProcess = func(ctx context.Context, m *raftpb.Message) error {
				if m.GetType() == raftpb.MsgAppResp {
					select {
					case <-release:
					case <-ctx.Done():
					}
				}
				return nil
			}
			as = append(as, a)
		}
		full := func(m *testmember.Member, node types.ID, lane string) (since time.Time) {
			for _, p := range m.Health().Problems {
				if p.Kind == "queue_full" && p.Peer == node && p.Lane == lane {
					since = p.Since
				}
			}
			require.Equal(t, since, groupLane(t, m, node, lane).FullSince)
			return since
		}
		time.Sleep(time.Second)
		began := time.Now()
		for _, a := range as {
			a.Send([]*raftpb.Message{{Type: raftpb.MsgAppResp.Enum(), To: new(uint64(2)), From: new(uint64(1)), Term: new(uint64(1))}})
		}
		time.Sleep(time.Minute)
		require.WithinDuration(t, began, full(mb, 1, "control"), 500*time.Millisecond)
		close(release)
		time.Sleep(time.Minute)
		require.Zero(t, full(mb, 1, "control"))
	})
}

// TestHeartbeatsHardlyFillAQueue: many heartbeats take one place of a queue, and Status says so: it is not full of them.
func TestHeartbeatsHardlyFillAQueue(t *testing.T) {
	const groups, places = 40, 20
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		release := make(chan struct{})
		defer close(release)
		ma := startNode(t, n, 1)
		mb := testmember.StartSimulated(t, n, 2, func(tr *rafthttp.Transport) { tr.Raft, tr.ReceiveQueueMessages = rafthttp.NoRaft{}, places })
		var as []joined
		for id := range uint64(groups) {
			a, b := connect(t, ma, mb, id+1, nil)
			b.raft.OnProcess = func(context.Context, *raftpb.Message) error {
				<-release
				return nil
			}
			as = append(as, a)
		}
		time.Sleep(time.Second)
		for _, a := range as {
			a.Send([]*raftpb.Message{{Type: raftpb.MsgHeartbeat.Enum(), To: new(uint64(2)), From: new(uint64(1)), Term: new(uint64(1)), Commit: new(uint64(1))}})
		}
		time.Sleep(time.Second)
		l := groupLane(t, mb, 1, "control")
		require.Positive(t, l.QueuedBytes)
		require.Equal(t, 1, l.Queued)
		for _, p := range mb.Health().Problems {
			require.NotEqual(t, "queue_full", p.Kind, p)
		}
	})
}
