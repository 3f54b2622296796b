package groups

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/bubble"
)

// reports is a Raft that keeps the reports.
type reports chan string

func (reports) Process(context.Context, *raftpb.Message) error { return nil }
func (reports) IsIDRemoved(uint64) bool                        { return false }
func (r reports) ReportUnreachable(uint64)                     { r <- "unreachable" }
func (r reports) ReportSnapshot(_ uint64, st raft.SnapshotStatus) {
	r <- map[raft.SnapshotStatus]string{raft.SnapshotFinish: "finish", raft.SnapshotFailure: "failure"}[st]
}

// TestSendWhileTheNodeEnds: a message that Send gives to a replica while it moves to another node, and its node ends with that, is lost, and
// raft is told: otherwise it would wait for the result of a snapshot for ever.
func TestSendWhileTheNodeEnds(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		to := make(reports, 16)
		r := lone(t, to)
		for _, w := range r.node.writers {
			w.Queue.Close()
		}
		for _, q := range r.node.posts.queues {
			q.Close()
		}
		for _, typ := range []raftpb.MessageType{raftpb.MsgSnap, raftpb.MsgHeartbeat, raftpb.MsgApp, raftpb.MsgProp} {
			r.send([]*raftpb.Message{{Type: typ.Enum(), From: new(uint64(1)), To: new(uint64(2))}})
			synctest.Wait()
			to <- typ.String()
		}
		r.group().groups.reports.Close()
		r.group().groups.wg.Wait()
		close(to)
		var got []string
		for v := range to {
			got = append(got, v)
		}
		require.Equal(t, []string{"unreachable", "failure", "MsgSnap", "unreachable", "MsgHeartbeat", "unreachable", "MsgApp", "unreachable", "MsgProp"}, got)
	})
}
