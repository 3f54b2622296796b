package snapshots_test

import (
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp"
)

// sentTo is an Observer that tells how snapshots ended.
func sentTo(ended chan<- error) *rafthttp.Observer {
	return &rafthttp.Observer{
		SnapshotSent: func(_ types.ID, _ uint64, _ int64, _ time.Duration, err error) { ended <- err },
	}
}
