package system

import (
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/etcdserver/api/rafthttp"
	stats "go.etcd.io/etcd/server/v3/etcdserver/api/v2stats"
	"go.uber.org/zap"
)

// upstream is the transport inside etcd. It has no settings for throughput.
var upstream = System{
	Name: "upstream", Title: "etcd", Module: "go.etcd.io/etcd/server/v3",
	Start: make_{
		listen: rafthttp.NewListener,
		newFor: func(m *member) transporter {
			id := types.ID(m.id)
			return &rafthttp.Transport{
				Logger: zap.NewNop(), ID: id, ClusterID: 0x1000, URLs: types.URLs{m.url}, TLSInfo: m.tls, Raft: m,
				ServerStats: stats.NewServerStats("", id.String()), LeaderStats: stats.NewLeaderStats(zap.NewNop(), id.String()),
			}
		},
		// Its handler stays with a stream; it hands the connection over before it waits.
		ready: func(m *member, peers int) bool {
			return m.streams.Load() == int64(2*peers) && m.transporter.(*rafthttp.Transport).ActivePeers() == peers
		},
	}.start,
}
