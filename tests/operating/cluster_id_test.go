package operating_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// TestClusterIDMismatchSaysWho: both ends log both cluster ids and the other member, on each way in, whether that member is a
// peer or not.
func TestClusterIDMismatchSaysWho(t *testing.T) {
	for _, known := range []bool{true, false} {
		simulate(t, func(t *testing.T, n *memnet.Network) {
			a, b := start(t, n, 1, nil), start(t, n, 2, func(tr *rafthttp.Transport) {
				tr.ClusterID, tr.Snapshotter = 0xd2, &disk{}
			})
			a.AddPeer(2, urls(2))
			if known {
				b.AddPeer(1, urls(1))
			}
			a.Send([]*raftpb.Message{heartbeat(1, 2)})
			a.SendSnapshot(snapshot(1, 2, bytes.NewReader(nil), 0))
			time.Sleep(2 * time.Minute)
			refused := 0
			for _, m := range []*node{a, b} {
				for _, l := range m.logs.All() {
					fields := l.ContextMap()
					err, _ := fields["error"].(string)
					if !strings.Contains(err, "cluster ID mismatch") {
						continue
					}
					require.Contains(t, err, "c1", l.Message)
					require.Contains(t, err, "d2", l.Message)
					require.Equal(t, (3 - m.ID).String(), fields["remote-peer-id"], l.Message)
					if strings.HasPrefix(l.Message, "refused a request") && m == b {
						refused++
						require.NotEmpty(t, fields["remote-addr"])
					}
				}
			}
			require.Positive(t, refused)
			require.Contains(t, a.peer(t, types.ID(2)).LastError, "cluster ID mismatch: ours is c1, the peer's is d2")
		})
	}
}
