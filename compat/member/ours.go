package member

import (
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/snap"
)

func startOurs(cfg Config) (Member, error) {
	l, listener, err := newLocal(cfg, rafthttp.NewListener)
	if err != nil {
		return nil, err
	}
	store, err := snap.Open(cfg.Dir)
	if err != nil {
		listener.Close()
		return nil, err
	}
	tr := &rafthttp.Transport{
		Logger: cfg.Logger, ID: types.ID(cfg.ID), ClusterID: types.ID(cfg.Cluster), TLSInfo: tlsInfo(cfg.TLS),
		DialTimeout: time.Second, URLs: types.MustNewURLs([]string{l.URL()}), Raft: l.gate, ErrorC: l.errorC,
		Snapshotter: store,
	}
	if cfg.Tune != nil {
		cfg.Tune(tr)
	}
	l.closeDir = store.Close
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
