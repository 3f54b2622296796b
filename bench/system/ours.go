package system

import (
	"fmt"
	"os"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// ours is this repository's transport. For throughput it is used with its defaults, but for queues that hold what a load
// has under way: they count the memory of messages, not only their data, until a batch is written as a whole. Members of
// groups have the defaults.
var ours = System{
	Name: Ours, Title: "ours", Snapshots: true, Module: "github.com/seed-4d73690b/rafthttp",
	Start: ourKind.start, StartMember: ourKind.startMember,
}

// oursBounded is the same with a bound that raft keeps by itself.
var oursBounded = System{
	Name: "ours-32MiB", Title: "ours, 32 MiB in flight", StartMember: ourKind.startMember, MaxInflightBytes: 32 << 20,
}

var ourKind = make_{
	listen: rafthttp.NewListener,
	newFor: func(h *host) (transporter, error) {
		t := &rafthttp.Transport{
			ID: types.ID(h.id), ClusterID: 0x1000, URLs: types.URLs{h.url}, TLSInfo: h.tls, Raft: h.raft,
			SendQueueBytes: h.queueBytes, ReceiveQueueBytes: h.queueBytes,
			Observer: &rafthttp.Observer{Dropped: func(id types.ID, lane string, n int, cause error) {
				h.dropped.Add(int64(n))
				if h.lost != nil {
					h.lost(fmt.Errorf("lane %s of member %d has dropped %d messages from or to member %d: %w", lane, h.id, n, uint64(id), cause))
				}
			}},
		}
		if h.dir == "" {
			return t, nil
		}
		store, err := snap.Open(h.dir)
		t.Snapshotter = plainSnapshotter{store}
		if h.checksum {
			t.Snapshotter = store
		}
		return t, err
	},
	sendSnapshot: func(h *host, msg *raftpb.Message, database *os.File, size int64) <-chan bool {
		s := snap.NewMessage(msg, database, size)
		h.transporter.(*rafthttp.Transport).SendSnapshot(s)
		return s.CloseNotify()
	},
	ready: func(h *host, peers int) bool {
		up := 0
		for _, p := range h.transporter.(*rafthttp.Transport).Status().Peers {
			for _, lane := range p.Lanes {
				if lane.Up && (lane.Name == "msgapp" || lane.Name == "message") {
					up++
				}
			}
		}
		return up == 2*peers
	},
	drops: func(h *host) int64 { return h.dropped.Load() },
}

// plainSnapshotter is a store that only saves, as etcd's does: transfers have no checksum, and begin anew when cut.
type plainSnapshotter struct{ rafthttp.Snapshotter }
