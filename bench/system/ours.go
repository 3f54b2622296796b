package system

import (
	"fmt"
	"os"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// ours is this repository's transport. It is used with its defaults, but for queues that hold what a load has
// under way: they count the memory of messages, not only their data, until a batch is written as a whole.
var ours = System{
	Name: "ours", Title: "ours", Snapshots: true, Module: "github.com/seed-4d73690b/rafthttp",
	Start: make_{
		listen: rafthttp.NewListener,
		newFor: func(m *member) (transporter, error) {
			t := &rafthttp.Transport{
				ID: types.ID(m.id), ClusterID: 0x1000, URLs: types.URLs{m.url}, TLSInfo: m.tls, Raft: m,
				SendQueueBytes: 2 * maxInFlightBytes, ReceiveQueueBytes: 2 * maxInFlightBytes,
				Observer: &rafthttp.Observer{Dropped: func(id types.ID, lane string, n int, cause error) {
					m.lost(fmt.Errorf("lane %s of member %d has dropped %d messages from or to member %d: %w", lane, m.id, n, uint64(id), cause))
				}},
			}
			if m.dir == "" {
				return t, nil
			}
			store, err := snap.Open(m.dir)
			t.Snapshotter = plainSnapshotter{store}
			if m.cfg.Checksum {
				t.Snapshotter = store
			}
			return t, err
		},
		sendSnapshot: func(m *member, msg *raftpb.Message, database *os.File, size int64) <-chan bool {
			s := snap.NewMessage(msg, database, size)
			m.transporter.(*rafthttp.Transport).SendSnapshot(s)
			return s.CloseNotify()
		},
		ready: func(m *member, peers int) bool {
			up := 0
			for _, p := range m.transporter.(*rafthttp.Transport).Status().Peers {
				for _, lane := range p.Lanes {
					if lane.Up && (lane.Name == "msgapp" || lane.Name == "message") {
						up++
					}
				}
			}
			return up == 2*peers
		},
	}.start,
}

// plainSnapshotter is a store that only saves, as etcd's does: transfers have no checksum, and begin anew when cut.
type plainSnapshotter struct{ rafthttp.Snapshotter }
