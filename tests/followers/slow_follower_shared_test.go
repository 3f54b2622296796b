package followers_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet/rafttest"
)

// TestSlowFollowerOfAGroup: a slow follower of a raft group that shares a transport gets what its line carries, as one that
// has the transport for itself.
func TestSlowFollowerOfAGroup(t *testing.T) {
	testmember.SkipWithTinyBuffers(t)
	for _, s := range []slowFollower{
		{name: "slow-line", what: "line of 20 MB/s, 40 ms", entry: 1 << 20, total: 200 << 20, line: slowLine},
		{
			name: "slow-line-64K-4096", what: "entries of 64 KiB, MaxInflightMsgs 4096", entry: 64 << 10, total: 200 << 20, line: slowLine,
			tune: func(cfg *raft.Config) { cfg.MaxInflightMsgs = 4096 },
		},
		{
			name: "slow-line-small-queue", what: "SendQueueBytes 8 MiB", entry: 256 << 10, total: 100 << 20, line: slowLine,
			tuneTransport: func(tr *rafthttp.Transport) { tr.SendQueueBytes = 8 << 20 },
		},
		{name: "down", what: "was down, near, 200 MiB behind", entry: 1 << 20, total: 200 << 20, line: line{rate: 1e9, window: 4 << 20}, down: true},
		{name: "slow-process-10ms", what: "Process 100 MB/s, 10 ms an append", entry: 1 << 20, total: 200 << 20, line: nearLine, process: slowProcess{rate: 100e6}},
		{name: "slow-process-20ms", what: "Process 50 MB/s, 20 ms an append", entry: 1 << 20, total: 200 << 20, line: nearLine, process: slowProcess{rate: 50e6}},
		{
			name: "slow-process-10ms-down", what: "was down, Process 100 MB/s, 10 ms an append", entry: 1 << 20, total: 200 << 20, line: nearLine,
			process: slowProcess{rate: 100e6}, down: true,
		},
		{name: "very-slow-line", what: "line of 2 MB/s, 40 ms", entry: 1 << 20, total: 50 << 20, line: line{2e6, 40 * time.Millisecond, 256 << 10}},
	} {
		s.shared = true
		s = s.measured()
		t.Run(s.name, func(t *testing.T) {
			if testmember.RaceEnabled && s.name != "slow-line" {
				t.Skip("is measured without the race detector")
			}
			var r slowRun
			bubble.Test(t, func(t *testing.T) { r = s.run(t) })
			t.Log(r.row(s))
			assert.True(t, r.caughtUp, "the follower never caught up")
			assert.GreaterOrEqual(t, r.share(s.total), 0.95, "of what the line carries")
			assert.LessOrEqual(t, r.waste(), 1.05, "bytes carried ÷ bytes needed")
		})
	}
}

// share has the member send by a raft group of a transport.
func (m *raftMember) share(transport *rafttest.Member) {
	g, err := transport.Group(1, rafthttp.GroupConfig{Raft: m})
	if err != nil {
		panic(err)
	}
	for id := uint64(1); id <= raftMembers; id++ {
		if id != m.id {
			g.AddPeer(types.ID(id), []string{rafttest.URL(id)})
		}
	}
	m.shared = g
	m.attach(transport)
}
