package groups_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// blockedReceiver is a GroupReceiver whose methods block.
type blockedReceiver struct{ received, unreachable chan struct{} }

func (r blockedReceiver) ReceiveGroups(types.ID, []rafthttp.GroupMessage) { <-r.received }
func (r blockedReceiver) GroupsUnreachable(types.ID, []uint64)            { <-r.unreachable }

// TestStopSaysForWhichGroupsItWaits: in the log, as for members.
func TestStopSaysForWhichGroupsItWaits(t *testing.T) {
	open := make(chan struct{})
	close(open)
	for want, in := range map[string]struct {
		kind     queue.Kind
		receiver func(hold chan struct{}) rafthttp.GroupReceiver
	}{
		"Raft.Process of group 7, control":     {kind: queue.Control},
		"Raft.Process of group 7, append":      {kind: queue.Append},
		"Raft.Process of group 7, proposal":    {kind: queue.Proposal},
		"GroupReceiver.ReceiveGroups":          {receiver: func(hold chan struct{}) rafthttp.GroupReceiver { return blockedReceiver{hold, open} }},
		"GroupReceiver.GroupsUnreachable of 1": {receiver: func(hold chan struct{}) rafthttp.GroupReceiver { return blockedReceiver{open, hold} }},
	} {
		t.Run(strings.ReplaceAll(want, " ", "-"), func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				core, logs := observer.New(zap.WarnLevel)
				hold := make(chan struct{})
				ma := startNode(t, n, 1)
				mb := testmember.StartSimulated(t, n, 2, func(tr *rafthttp.Transport) {
					tr.Raft, tr.Logger = rafthttp.NoRaft{}, zap.New(core)
					if in.receiver != nil {
						tr.GroupReceiver = in.receiver(hold)
					}
				})
				a, b := connect(t, ma, mb, 7, nil)
				b.raft.OnProcess = func(context.Context, *raftpb.Message) error { <-hold; return nil }
				time.Sleep(time.Second)
				a.Send([]*raftpb.Message{ofKind(in.kind, 2, 1)})
				b.Send([]*raftpb.Message{testmember.Heartbeat(1, 2, 1)})
				time.Sleep(time.Second)
				ma.Stop()
				time.Sleep(time.Second)
				stopped := make(chan struct{})
				go func() { defer close(stopped); mb.Stop() }()
				time.Sleep(6 * time.Second)
				lines := logs.FilterMessage("Stop still waits for callbacks").All()
				close(hold)
				<-stopped
				require.Len(t, lines, 1)
				require.Equal(t, []any{want}, lines[0].ContextMap()["callbacks"])
			})
		})
	}
}

// TestStopSaysForWhichReportItWaits: it names the group, of which there may be thousands.
func TestStopSaysForWhichReportItWaits(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		core, logs := observer.New(zap.WarnLevel)
		r := &blockedReports{release: make(chan struct{})}
		m := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) { tr.Raft, tr.Logger = rafthttp.NoRaft{}, zap.New(core) })
		g, err := m.Group(7, rafthttp.GroupConfig{Raft: r})
		require.NoError(t, err)
		g.AddPeer(2, []string{testmember.URLOf(2)})
		g.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1)})
		time.Sleep(10 * time.Second)
		stopped := make(chan struct{})
		go func() { defer close(stopped); m.Stop() }()
		time.Sleep(6 * time.Second)
		lines := logs.FilterMessage("Stop still waits for callbacks").All()
		close(r.release)
		<-stopped
		require.Len(t, lines, 1)
		require.Equal(t, []any{"Raft.ReportUnreachable, group 7, of 2"}, lines[0].ContextMap()["callbacks"])
	})
}
