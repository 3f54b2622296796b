package groups_test

import (
	"crypto/tls"
	"math"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/internal/testtls"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/peerid"
)

// TestManyRefusalsByPost: all groups learn that the other node does not have them, by one POST in an interval, whatever limits the nodes
// have.
func TestManyRefusalsByPost(t *testing.T) {
	for name, tune := range map[string]func(*rafthttp.Transport){
		"default": nil,
		"least": func(tr *rafthttp.Transport) {
			tr.MaxQueuedBytes, tr.MaxMessageBytes, tr.SendQueueMessages, tr.ReceiveQueueMessages = 4<<10, 1<<10, 1, 1
		},
		"most": func(tr *rafthttp.Transport) {
			tr.MaxQueuedBytes, tr.MaxMessageBytes, tr.SendQueueMessages, tr.ReceiveQueueMessages = math.MaxInt64, math.MaxInt64, math.MaxInt, math.MaxInt
		},
	} {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				var posts atomic.Int32
				var longest atomic.Int64
				front(t, n, nil, func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
					if r.Method == http.MethodPost {
						posts.Add(1)
						longest.Store(max(longest.Load(), r.ContentLength))
					}
					pass.ServeHTTP(w, r)
				})
				ma := testmember.StartSimulated(t, n, 2, testmember.Tuned(noRaft, tune))
				_, _, mb := refusing(t, n, ma, frontURL)
				const many = 600
				var all []joined
				for id := range uint64(many) {
					g := join(t, ma, 10+id, nil)
					g.AddPeer(1, []string{testmember.URLOf(1)})
					all = append(all, g)
				}
				before := mb.Status().Groups.Unknown
				const seconds = 20
				for range seconds {
					for _, g := range all {
						g.Send([]*raftpb.Message{testmember.Heartbeat(1, 2, 1)})
						time.Sleep(time.Second / many)
					}
				}
				require.NotZero(t, mb.Status().Groups.Unknown-before)
				for i, g := range all {
					require.NotZero(t, g.Status().Refused, "group %d", i)
					require.Less(t, g.Status().Refused, uint64(seconds/2))
				}
				require.LessOrEqual(t, posts.Load(), int32(seconds))
				require.Less(t, longest.Load(), int64(16<<10))
			})
		})
	}
}

// TestRefusalsToManyNodes: all nodes learn at once that a node without streams does not have their group.
func TestRefusalsToManyNodes(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		mb := startNode(t, n, 1)
		testmember.WrapWriters(mb, func(w http.ResponseWriter) http.ResponseWriter { return testmember.BasicWriter{W: w} })
		b := join(t, mb, 2, nil)
		var all []joined
		last := types.ID(201)
		if testmember.RaceEnabled {
			last = 21
		}
		for id := types.ID(2); id <= last; id++ {
			g := join(t, startNode(t, n, id), 1, nil)
			g.AddPeer(1, []string{testmember.URLOf(1)})
			b.AddPeer(id, []string{testmember.URLOf(id)})
			all = append(all, g)
		}
		time.Sleep(10 * time.Second)
		for i, g := range all {
			g.Send([]*raftpb.Message{testmember.Heartbeat(1, types.ID(i+2), 1)})
		}
		time.Sleep(4 * time.Second)
		for i, g := range all {
			require.NotZero(t, g.Status().Refused, "node %d", i+2)
		}
	})
}

// blockedRaft never returns from a report.
type blockedRaft struct {
	testmember.Recorder
	release chan struct{}
}

// ReportUnreachable implements Raft.
func (r *blockedRaft) ReportUnreachable(uint64) { <-r.release }

// TestRefusalsBesideABlockedReport: a report that blocks for ever delays neither refusals of other groups nor the POSTs.
func TestRefusalsBesideABlockedReport(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		release := make(chan struct{})
		defer close(release)
		var posts atomic.Int32
		front(t, n, nil, func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
			pass.ServeHTTP(w, r)
			if r.Method == http.MethodPost {
				posts.Add(1)
			}
		})
		ma := startNode(t, n, 2)
		a, _, _ := refusing(t, n, ma, frontURL)
		blocked := join(t, ma, 3, func(c *rafthttp.GroupConfig) { c.Raft = &blockedRaft{release: release} })
		blocked.AddPeer(1, []string{testmember.URLOf(1)})
		for i := range 10 {
			before := a.raft.Unreachables(1)
			blocked.Send([]*raftpb.Message{testmember.Heartbeat(1, 2, 1)})
			a.Send([]*raftpb.Message{testmember.Heartbeat(1, 2, 1)})
			time.Sleep(4 * time.Second)
			require.Greater(t, a.raft.Unreachables(1), before)
			require.Greater(t, posts.Load(), int32(i))
		}
		require.GreaterOrEqual(t, blocked.Status().Refused, uint64(10))
	})
}

// TestRefusalsBesideABlockedVerifyPeer: a POST whose sender is being checked ends after a while, and the next ones tell what it had, also
// after minutes without a message.
func TestRefusalsBesideABlockedVerifyPeer(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		var blocks atomic.Bool
		var calls atomic.Int32
		release := make(chan struct{})
		verify := func(types.ID, *tls.ConnectionState) error {
			if blocks.Load() {
				calls.Add(1)
				<-release
			}
			return nil
		}
		ma := testmember.StartSimulated(t, n, 2, func(tr *rafthttp.Transport) { tr.Raft, tr.VerifyPeer = rafthttp.NoRaft{}, verify })
		mb := startNode(t, n, 1)
		n.DialBlock(testmember.HostOf(2), testmember.HostOf(1), memnet.DialRefused)
		a, b := join(t, ma, 1, nil), join(t, mb, 2, nil)
		a.AddPeer(1, []string{testmember.URLOf(1)})
		b.AddPeer(2, []string{testmember.URLOf(2)})
		time.Sleep(10 * time.Minute)
		blocks.Store(true)
		a.Send([]*raftpb.Message{testmember.Heartbeat(1, 2, 1)})
		time.Sleep(time.Minute)
		blocked := calls.Load()
		blocks.Store(false)
		close(release)
		require.NotZero(t, blocked)
		require.LessOrEqual(t, blocked, int32(8), "one POST at a time, and a recheck")
		time.Sleep(20 * time.Second)
		require.NotZero(t, a.Status().Refused)
		require.LessOrEqual(t, a.Status().Refused, uint64(blocked)+1, "each POST that was checked at last, and one more")
	})
}

// TestRemovedReplicaIsToldOverTLS: a replica is told by POST that it was removed if VerifyPeer knows the node that says so, and otherwise that
// it was refused.
func TestRemovedReplicaIsToldOverTLS(t *testing.T) {
	hosts, err := peerid.Hosts(map[types.ID][]string{1: {testmember.HostOf(1)}, 2: {testmember.HostOf(2)}})
	require.NoError(t, err)
	for name, verify := range map[string]func(types.ID, *tls.ConnectionState) error{"VerifyPeer": hosts, "certificates only": nil} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				ca := testtls.NewAuthority(t)
				s := testtls.NewNetwork(t, testmember.NewNetwork(), t.TempDir())
				start := func(id types.ID) *testmember.Member {
					s.Issue(ca, id, time.Hour)
					s.Trust(id, ca)
					s.Revoke(id, ca)
					return s.Start(id, func(tr *rafthttp.Transport) {
						noRaft(tr)
						tr.VerifyPeer, tr.ReadTimeout = verify, 0
					})
				}
				ma, mb := start(1), start(2)
				testmember.WrapWriters(mb, func(w http.ResponseWriter) http.ResponseWriter { return testmember.BasicWriter{W: w} })
				removed := make(chan error, 1)
				a, b := join(t, ma, 1, func(c *rafthttp.GroupConfig) { c.ErrorC = removed }), join(t, mb, 1, nil)
				keeps := join(t, mb, 2, nil)
				b.raft.Removed = func(id uint64) bool { return id == 1 }
				a.AddPeer(2, []string{mb.URL})
				keeps.AddPeer(1, []string{ma.URL})
				time.Sleep(10 * time.Second)
				require.True(t, groupLane(t, ma, 2, "group").Up, "%s %s", groupNode(t, ma, 2).LastError, groupNode(t, mb, 1).LastError)
				require.False(t, groupLane(t, mb, 1, "group").Up)
				a.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1)})
				time.Sleep(10 * time.Second)
				require.Empty(t, b.raft.Received())
				if verify == nil {
					require.Empty(t, removed)
					require.NotZero(t, a.Status().Refused)
					return
				}
				require.Len(t, removed, 1)
				require.ErrorIs(t, <-removed, rafthttp.ErrMemberRemoved)
			})
		})
	}
}
