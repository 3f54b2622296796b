package groups_test

import (
	"io"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// stackReader is a Raft that looks whether reports come from a goroutine that is inside a Stop.
type stackReader struct {
	testmember.Recorder
	reports, inside atomic.Int32
}

func (r *stackReader) ReportSnapshot(uint64, raft.SnapshotStatus) {
	var b [8 << 10]byte
	stack := string(b[:runtime.Stack(b[:], false)])
	r.reports.Add(1)
	if strings.Contains(stack, "rafthttp.(*Group).Stop") || strings.Contains(stack, "rafthttp.(*Transport).Stop") {
		r.inside.Add(1)
	}
}

// TestReportsAtTheEndComeFromOtherGoroutines: who calls Stop may hold a lock that is not a reentrant one, and its stack has no callback.
func TestReportsAtTheEndComeFromOtherGoroutines(t *testing.T) {
	for name, stop := range map[string]func(m *testmember.Member, g *rafthttp.Group){
		"Group.Stop":     func(_ *testmember.Member, g *rafthttp.Group) { g.Stop() },
		"Transport.Stop": func(m *testmember.Member, _ *rafthttp.Group) { m.Stop() },
	} {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				m := startNode(t, n, 1)
				r := &stackReader{}
				g, err := m.Group(7, rafthttp.GroupConfig{Raft: r})
				require.NoError(t, err)
				g.AddPeer(2, []string{testmember.URLOf(2)}) // which is down
				const sent = 20
				for i := range uint64(sent) {
					g.SendSnapshot(snap.NewMessage(testmember.MsgSnap(2, 1, i+1), io.NopCloser(strings.NewReader("db")), 2))
				}
				stop(m, g)
				require.EqualValues(t, sent, r.reports.Load())
				require.Zero(t, r.inside.Load(), "reports from inside Stop")
				time.Sleep(time.Second)
			})
		})
	}
}
