package groups_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// TestRefusedMsgSnap: a MsgSnap without a database that is not queued has failed.
func TestRefusedMsgSnap(t *testing.T) {
	for name, tc := range map[string]struct {
		tune func(*rafthttp.Transport)
		join uint64 // the group at the receiver
		want raft.SnapshotStatus
	}{
		"queued":        {nil, 1, raft.SnapshotFinish},
		"unknown group": {nil, 2, raft.SnapshotFailure},
		"no room":       {func(tr *rafthttp.Transport) { tr.ReceiveQueueMessages = 1 }, 1, raft.SnapshotFailure},
	} {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				ma := startNode(t, n, 1)
				mb := testmember.StartSimulated(t, n, 2, testmember.Tuned(func(tr *rafthttp.Transport) { tr.Raft = rafthttp.NoRaft{} }, tc.tune))
				b := join(t, mb, tc.join, nil)
				release := make(chan struct{})
				b.raft.OnProcess = func(context.Context, *raftpb.Message) error { <-release; return nil }
				a := join(t, ma, 1, nil)
				a.AddPeer(2, []string{testmember.URLOf(2)})
				b.AddPeer(1, []string{testmember.URLOf(1)})
				time.Sleep(time.Second)
				if name == "no room" {
					a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, 1, nil), testmember.MsgApp(2, 1, 2, nil), testmember.MsgApp(2, 1, 3, nil)})
					time.Sleep(time.Second)
				}
				a.Send([]*raftpb.Message{testmember.MsgSnap(2, 1, 5)})
				time.Sleep(time.Second)
				close(release)
				require.Equal(t, []raft.SnapshotStatus{tc.want}, a.raft.SnapshotReports())
			})
		})
	}
}

// TestResultAfterTheGroupWasStopped: a group that was stopped and joined again gets no report for what it never sent.
func TestResultAfterTheGroupWasStopped(t *testing.T) {
	for name, lost := range map[string]bool{"arrived": false, "lost": true} {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				hold := make(chan struct{})
				answering(t, n, nil, func() {
					if <-hold; lost {
						panic(http.ErrAbortHandler)
					}
				})
				ma := startNode(t, n, 1)
				join(t, ma, 2, nil).AddPeer(2, []string{testmember.URLOf(2)}) // keeps the node
				a := join(t, ma, 1, nil)
				a.AddPeer(2, []string{testmember.URLOf(2)})
				a.Send([]*raftpb.Message{testmember.MsgSnap(2, 1, 5), testmember.Heartbeat(2, 1, 1)})
				time.Sleep(time.Second)
				a.Stop()
				again := join(t, ma, 1, func(c *rafthttp.GroupConfig) { c.Replica = 11 })
				again.AddPeer(2, []string{testmember.URLOf(2)})
				close(hold)
				time.Sleep(time.Second)
				require.Empty(t, again.raft.SnapshotReports())
				require.Zero(t, again.raft.Unreachables(2))
			})
		})
	}
}

// TestMsgSnapHasOneResult: a MsgSnap without a database has exactly one report, whatever ends while it is posted: none is missing when Stop
// has returned, and none comes later.
func TestMsgSnapHasOneResult(t *testing.T) {
	for name, c := range ends {
		for _, lost := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
					hold := make(chan struct{})
					answering(t, n, nil, func() {
						if <-hold; lost {
							panic(http.ErrAbortHandler)
						}
					})
					ma := startNode(t, n, 1)
					other := join(t, ma, 2, nil) // keeps the node
					other.AddPeer(2, []string{testmember.URLOf(2)})
					a := join(t, ma, 1, nil)
					a.AddPeer(2, []string{testmember.URLOf(2)})
					a.Send([]*raftpb.Message{testmember.MsgSnap(2, 1, 5)})
					time.Sleep(time.Second)
					c.end(a, ma)
					if c.joins {
						require.Equal(t, []raft.SnapshotStatus{raft.SnapshotFailure}, a.raft.SnapshotReports())
					}
					close(hold)
					time.Sleep(time.Minute)
					require.Len(t, a.raft.SnapshotReports(), 1)
					a.Send([]*raftpb.Message{testmember.MsgSnap(2, 1, 6)})
					time.Sleep(time.Second)
					if c.joins {
						require.Len(t, a.raft.SnapshotReports(), 1)
					}
				})
			})
		}
	}
}
