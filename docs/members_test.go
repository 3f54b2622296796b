package docs_test

import (
	"io"
	"log"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
)

// TestPeerURLsAreCheckedLikeThis: types.NewURLs refuses exactly what AddPeer and UpdatePeer panic at.
func TestPeerURLsAreCheckedLikeThis(t *testing.T) {
	tr := &rafthttp.Transport{ID: 1, ClusterID: readmeCluster, Raft: deaf{}}
	require.NoError(t, tr.Start())
	defer tr.Stop()
	accepted := 0
	for i, url := range []string{
		"http://10.0.0.2:2380", "https://two.example:2380", "http://[fe80::1%25eth0]:2380", "http://:1", "http://10.0.0.2:99999", // the last two lead nowhere
		"", "10.0.0.2:2380", "http://10.0.0.2", "http://10.0.0.2:2380/path", "ftp://10.0.0.2:2380", "http://10.0.0.2:port", "http://a b:1",
	} {
		add := func() { tr.AddPeer(types.ID(i+2), []string{url}) }
		update := func() { tr.UpdatePeer(types.ID(i+2), []string{url}) }
		if _, err := types.NewURLs([]string{url}); err != nil {
			require.Panics(t, add, url)
			require.Panics(t, update, url)
			continue
		}
		accepted++
		require.NotPanics(t, add, url)
		require.NotPanics(t, update, url)
	}
	require.Equal(t, 5, accepted)
}

// TestRefusedChange: raft skips a change with the id 0, and knows nothing of one that it is not given. Several with the id 0 still
// begin a joint configuration.
func TestRefusedChange(t *testing.T) {
	memory := raft.NewMemoryStorage()
	conf := &raftpb.ConfState{Voters: []uint64{1, 2}}
	require.NoError(t, memory.ApplySnapshot(&raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: new(uint64(1)), Term: new(uint64(1)), ConfState: conf}}))
	node := raft.RestartNode(&raft.Config{
		ID: 1, ElectionTick: 10, HeartbeatTick: 1, Storage: memory, MaxSizePerMsg: 1 << 20, MaxInflightMsgs: 256,
		Logger: &raft.DefaultLogger{Logger: log.New(io.Discard, "", 0)},
	})
	defer node.Stop()
	zero := &raftpb.ConfChange{Type: raftpb.ConfChangeRemoveNode.Enum(), NodeId: new(uint64(0))}
	require.Equal(t, conf.GetVoters(), node.ApplyConfChange(zero).GetVoters())
	single := &raftpb.ConfChangeSingle{Type: raftpb.ConfChangeRemoveNode.Enum(), NodeId: new(uint64(0))}
	joint := node.ApplyConfChange(&raftpb.ConfChangeV2{Changes: []*raftpb.ConfChangeSingle{single, single}})
	require.NotEmpty(t, joint.GetVotersOutgoing())
}
