package member

import (
	"io"
	"log"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/etcdserver/api/rafthttp"
	"go.etcd.io/etcd/server/v3/etcdserver/api/snap"
	stats "go.etcd.io/etcd/server/v3/etcdserver/api/v2stats"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
)

// quiet is where net/http's servers log that a connection broke.
var quiet = log.New(io.Discard, "", 0)

func startStock37(cfg Config) (Member, error) {
	l, listener, err := newLocal(cfg, rafthttp.NewListener)
	if err != nil {
		return nil, err
	}
	logger := cfg.Logger
	if logger == nil {
		logger = zap.NewNop()
	}
	id := types.ID(cfg.ID)
	tr := &rafthttp.Transport{
		Logger: logger, ID: id, ClusterID: types.ID(cfg.Cluster), TLSInfo: tlsInfo(cfg.TLS), DialTimeout: time.Second,
		URLs: types.MustNewURLs([]string{l.URL()}), Raft: l.gate, ErrorC: l.errorC,
		Snapshotter: snap.New(logger, cfg.Dir),
		ServerStats: stats.NewServerStats("", id.String()), LeaderStats: stats.NewLeaderStats(logger, id.String()),
	}
	l.snapshot = func(m *raftpb.Message, db Source) <-chan bool {
		rc, size, err := db.open()
		if err != nil {
			panic(err)
		}
		s := snap.NewMessage(m, rc, size)
		tr.SendSnapshot(s)
		return s.CloseNotify()
	}
	return l, l.serve(tr, listener)
}
