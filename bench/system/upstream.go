package system

import (
	"os"
	"sync"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/etcdserver/api/rafthttp"
	"go.etcd.io/etcd/server/v3/etcdserver/api/snap"
	stats "go.etcd.io/etcd/server/v3/etcdserver/api/v2stats"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
)

// upstream is the transport inside etcd. It has no settings for throughput.
var upstream = System{
	Name: "upstream", Title: "etcd", Snapshots: true, Module: "go.etcd.io/etcd/server/v3",
	Start: make_{
		listen: rafthttp.NewListener,
		newFor: func(m *member) (transporter, error) {
			id := types.ID(m.id)
			return &rafthttp.Transport{
				Logger: zap.NewNop(), ID: id, ClusterID: 0x1000, URLs: types.URLs{m.url}, TLSInfo: m.tls, Raft: m,
				Snapshotter: snap.New(zap.NewNop(), m.dir),
				ServerStats: stats.NewServerStats("", id.String()), LeaderStats: stats.NewLeaderStats(zap.NewNop(), id.String()),
			}, nil
		},
		sendSnapshot: func(m *member, msg *raftpb.Message, database *os.File, size int64) <-chan bool {
			s := snap.NewMessage(msg, &onceClosed{File: database}, size)
			m.transporter.(*rafthttp.Transport).SendSnapshot(s)
			return s.CloseNotify()
		},
		// Its handler stays with a stream; it hands the connection over before it waits.
		ready: func(m *member, peers int) bool {
			return m.streams.Load() == int64(2*peers) && m.transporter.(*rafthttp.Transport).ActivePeers() == peers
		},
	}.start,
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
