package interop_test

import (
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/compat/member"
	"github.com/seed-4d73690b/rafthttp/compat/traffic"
	"github.com/seed-4d73690b/rafthttp/compat/v36/drive"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// keepTransport keeps the Transport of a member of ours.
func keepTransport(tr **rafthttp.Transport) func(*member.Config) {
	return func(c *member.Config) {
		tune := c.Tune
		c.Tune = func(t *rafthttp.Transport) {
			if tune != nil {
				tune(t)
			}
			*tr = t
		}
	}
}

// join adds a group to a Transport.
func join(t *testing.T, tr *rafthttp.Transport, id uint64) (*rafthttp.Group, *member.Recorder) {
	t.Helper()
	told := new(member.Recorder)
	g, err := tr.Group(id, rafthttp.GroupConfig{Raft: told})
	require.NoError(t, err)
	return g, told
}

// startWithLog starts a stock member, and returns what it has logged since the last call.
func startWithLog(t *testing.T, kind member.Kind, id uint64, change ...func(*member.Config)) (*end, func() []string) {
	t.Helper()
	core, lines := observer.New(zap.InfoLevel)
	e := start(t, kind, id, append(change, func(c *member.Config) { c.Logger = zap.New(core) })...)
	return e, func() []string {
		logged := e.Look(0).Logged
		for _, l := range lines.TakeAll() {
			logged = append(logged, l.Message)
		}
		return logged
	}
}

// TestGroupAtAStockMember: a group that is given a stock member as a node is told that it is unreachable. The member is sent
// nothing but probes, and neither logs nor saves anything, whatever the group sends.
func TestGroupAtAStockMember(t *testing.T) {
	for _, kind := range []member.Kind{member.Stock37, member.Stock36} {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/tls=%t", kind, secure), func(t *testing.T) {
				t.Parallel()
				var files *drive.TLS
				if secure {
					files = certificate(t)
				}
				stock, logged := startWithLog(t, kind, 2, withTLS(files))
				var tr *rafthttp.Transport
				ours := start(t, member.Ours, 1, withTLS(files), keepTransport(&tr))
				logged() // of its start
				began := time.Now()
				g, told := join(t, tr, 7)
				g.AddPeer(2, []string{stock.URL()})
				awaitDials(t, tr)
				for i := 1; i <= 5; i++ {
					g.Send(everyMessage(ours, stock))
					waitFor(t, told, func(s *member.Seen) bool { return s.Unreachable[2] >= i })
				}
				require.Eventually(t, func() bool { return stock.Look(0).Requests["GET /raft/probing"] > 5 }, patience, pollEvery)
				nodes := tr.Status().Groups.Nodes
				require.Len(t, nodes, 1)
				require.Contains(t, nodes[0].LastError, rafthttp.ErrNoGroups.Error())
				require.True(t, g.ActiveSince(2).IsZero())
				requireOnlyProbes(t, stock, began, 2)
				sendSnapshotToStock(t, g, told)
				requireOnlyProbes(t, stock, began, 3) // of two streams and a snapshot
				require.Empty(t, logged())
				requireNothingSaved(t, stock)
			})
		}
	}
}

// awaitDials waits until both streams of the only node were dialled in vain.
func awaitDials(t *testing.T, tr *rafthttp.Transport) {
	t.Helper()
	require.Eventually(t, func() bool {
		dialled := 0
		for _, s := range tr.Status().Groups.Nodes[0].Streams {
			if s.DialFailures > 0 {
				dialled++
			}
		}
		return dialled == 2
	}, patience, pollEvery)
}

// waitFor waits until ok says yes of what a raft was told.
func waitFor(t *testing.T, r *member.Recorder, ok func(*member.Seen) bool) {
	t.Helper()
	eventually(t, &end{Recorder: r, kind: "a group"}, ok)
}

// sendSnapshotToStock sends snapshots of a group to member 2, which fail with one report each.
func sendSnapshotToStock(t *testing.T, g *rafthttp.Group, told *member.Recorder) {
	t.Helper()
	waitFor(t, told, func(s *member.Seen) bool { // of the MsgSnaps without a database
		for _, r := range s.Snapshots {
			require.Equal(t, member.SnapshotReport{Peer: 2, Status: raft.SnapshotFailure}, r)
		}
		return len(s.Snapshots) >= 10
	})
	told.Reset()
	source := drive.Database{Seed: 1, Size: 1 << 20}
	m := snap.NewMessage(traffic.SnapshotMessage(1, 2, 1000, 3), io.NopCloser(source.Reader()), source.Size)
	g.SendSnapshot(m)
	require.False(t, <-m.CloseNotify())
	waitFor(t, told, func(s *member.Seen) bool { return len(s.Snapshots) > 0 })
	g.Stop() // no report is under way
	told.Look(func(s *member.Seen) {
		require.Equal(t, []member.SnapshotReport{{Peer: 2, Status: raft.SnapshotFailure}}, s.Snapshots)
	})
}

// requireOnlyProbes requires that a member has received nothing but probes: no more than a number of dialers send that began at
// a time, and four workers once an interval of link heartbeats.
func requireOnlyProbes(t *testing.T, e *end, began time.Time, dialers int) {
	t.Helper()
	requests := e.Look(0).Requests
	for request := range requests {
		require.Equal(t, "GET /raft/probing", request)
	}
	most, at := 0, time.Duration(0)
	for pause := 100 * time.Millisecond; at <= time.Since(began); pause = min(pause*3/2, time.Second) {
		most, at = most+1, at+pause
	}
	most = most*dialers + 4*int(1+time.Since(began)/(rafthttp.DefaultConnReadTimeout/3))
	require.LessOrEqual(t, requests["GET /raft/probing"], most)
}

// requireNothingSaved requires that a member's raft was told nothing, and that no database was saved.
func requireNothingSaved(t *testing.T, e *end) {
	t.Helper()
	e.Recorder.Look(func(s *member.Seen) {
		require.Empty(t, s.Messages)
		require.Empty(t, s.Errors)
	})
	files, err := os.ReadDir(e.dir)
	require.NoError(t, err)
	require.Empty(t, files)
}
