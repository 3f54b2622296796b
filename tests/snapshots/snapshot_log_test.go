package snapshots_test

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/snap"
)

const ignored = "the ConfState of a snapshot lacks the member that it is for, whose raft ignores it"

// TestSnapshotForSomebodyElse: that raft at the receiver will ignore a snapshot is
// said at both ends, since raft itself just asks for it again.
func TestSnapshotForSomebodyElse(t *testing.T) {
	tests := []struct {
		name string
		conf *raftpb.ConfState // 2 receives
		warn bool
	}{
		{"voter", &raftpb.ConfState{Voters: []uint64{1, 2}}, false},
		{"learner", &raftpb.ConfState{Voters: []uint64{1}, Learners: []uint64{2}}, false},
		{"leaving a joint configuration", &raftpb.ConfState{Voters: []uint64{1}, VotersOutgoing: []uint64{1, 2}}, false},
		{"added later", &raftpb.ConfState{Voters: []uint64{1, 3}}, true},
		{"no ConfState", nil, true},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				logsA, linesA := testmember.Logged(zap.NewAtomicLevelAt(zap.WarnLevel))
				logsB, linesB := testmember.Logged(zap.NewAtomicLevelAt(zap.WarnLevel))
				p := testmember.NewPair(t, logsA, testmember.Tuned(testmember.Receives(testmember.SavesAll), logsB))
				warned := func(want int) {
					for _, lines := range []int{linesA.FilterMessage(ignored).Len(), linesB.FilterMessage(ignored).Len()} {
						require.Equal(t, want, lines)
					}
				}
				m := testmember.MsgSnap(2, 1, 7)
				m.Snapshot.Metadata.ConfState = tc.conf
				p.A.SendSnapshot(snap.NewMessage(m, nil, 0))
				require.NoError(t, <-p.Sent)
				synctest.Wait() // for the log
				if !tc.warn {
					warned(0)
					return
				}
				warned(1)
				require.EqualValues(t, 7, linesA.FilterMessage(ignored).All()[0].ContextMap()["snapshot-index"])
				p.A.Send([]*raftpb.Message{m})
				synctest.Wait()
				require.Equal(t, 2, linesA.FilterMessage(ignored).Len(), "by Send")
			})
		})
	}
}

// TestSnapshotLinesAreBounded: a snapshot that raft wants again and again does not
// fill the log of either member, also not that of one who does not know the sender.
func TestSnapshotLinesAreBounded(t *testing.T) {
	for name, known := range map[string]bool{"peer": true, "stranger": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				logsA, linesA := testmember.Logged(zap.NewAtomicLevelAt(zap.InfoLevel))
				logsB, linesB := testmember.Logged(zap.NewAtomicLevelAt(zap.InfoLevel))
				p := testmember.NewPair(t, logsA, testmember.Tuned(testmember.Receives(testmember.SavesAll), logsB))
				if !known {
					p.B.RemovePeer(1)
					synctest.Wait()
				}
				for range 100 {
					p.A.SendSnapshot(snap.NewMessage(testmember.MsgSnap(2, 1, 7), nil, 0))
					require.NoError(t, <-p.Sent)
				}
				synctest.Wait()
				for _, lines := range []*observer.ObservedLogs{linesA, linesB} {
					of := lines.Filter(func(e observer.LoggedEntry) bool { return strings.Contains(e.Message, "database snapshot") })
					require.Equal(t, 20, of.Len(), "the beginning and the end of ten")
				}
			})
		})
	}
}
