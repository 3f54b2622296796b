package system

import (
	"os"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/etcdserver/api/rafthttp"
	"go.etcd.io/etcd/server/v3/etcdserver/api/snap"
	stats "go.etcd.io/etcd/server/v3/etcdserver/api/v2stats"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
)

// upstream is the transport inside etcd. It has no settings for throughput.
var upstream = System{
	Name: Upstream, Title: "etcd", Snapshots: true, Module: "go.etcd.io/etcd/server/v3",
	Start: upstreamKind.start, StartMember: upstreamKind.startMember,
}

var upstreamKind = make_{
	listen: rafthttp.NewListener,
	newFor: func(h *host) (transporter, error) {
		id := types.ID(h.id)
		return &rafthttp.Transport{
			Logger: zap.NewNop(), ID: id, ClusterID: 0x1000, URLs: types.URLs{h.url}, TLSInfo: h.tls, Raft: h.raft,
			Snapshotter: snap.New(zap.NewNop(), h.dir),
			ServerStats: stats.NewServerStats("", id.String()), LeaderStats: stats.NewLeaderStats(zap.NewNop(), id.String()),
		}, nil
	},
	sendSnapshot: func(h *host, msg *raftpb.Message, database *os.File, size int64) <-chan bool {
		s := snap.NewMessage(msg, &onceClosed{File: database}, size)
		h.transporter.(*rafthttp.Transport).SendSnapshot(s)
		return s.CloseNotify()
	},
	// Its handler stays with a stream; it hands the connection over before it waits.
	ready: func(h *host, peers int) bool {
		return h.streams.Load() == int64(2*peers) && h.transporter.(*rafthttp.Transport).ActivePeers() == peers
	},
	drops: func(*host) int64 {
		return counted("etcd_network_peer_sent_failures_total", "etcd_network_peer_received_failures_total")
	},
}

// counted is the sum of Prometheus counters of this process, all labels together.
func counted(names ...string) int64 {
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		panic(err) // etcd's own collectors disagree
	}
	var sum float64
	for _, f := range families {
		if slices.Contains(names, f.GetName()) {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return int64(sum)
}

// onceClosed is a file that may be closed again. etcd's transport closes what it reads more than once, and takes the
// error of the second time for a failure of the transfer.
type onceClosed struct {
	*os.File
	once sync.Once
}

// Close implements io.Closer.
func (f *onceClosed) Close() (err error) {
	f.once.Do(func() { err = f.File.Close() })
	return err
}
