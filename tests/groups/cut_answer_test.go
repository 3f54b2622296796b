package groups_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// TestPostWhoseAnswerIsCut: what is missing of an answer may be a refusal, so it is none of success.
func TestPostWhoseAnswerIsCut(t *testing.T) {
	for length, want := range map[string]raft.SnapshotStatus{"0": raft.SnapshotFinish, "100": raft.SnapshotFailure} {
		t.Run(length, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				answering(t, n, http.Header{"X-Etcd-Cluster-Id": {testmember.PeerHeader(nil).Get("X-Etcd-Cluster-ID")}, "Content-Length": {length}}, nil)
				a := join(t, startNode(t, n, 1), 1, nil)
				a.AddPeer(2, []string{testmember.URLOf(2)})
				a.Send([]*raftpb.Message{testmember.MsgSnap(2, 1, 5)})
				time.Sleep(time.Second)
				require.Equal(t, []raft.SnapshotStatus{want}, a.raft.SnapshotReports())
			})
		})
	}
}
