package groups_test

import (
	"context"
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// holder is a Raft whose Process holds messages until release is closed.
type holder struct {
	testmember.Recorder
	release chan struct{}
	running atomic.Int32
	most    atomic.Int32
}

func (h *holder) Process(_ context.Context, m *raftpb.Message) error {
	if n := h.running.Add(1); n > h.most.Load() {
		h.most.Store(n)
	}
	defer h.running.Add(-1)
	<-h.release
	h.Keep(m)
	return nil
}

// holding returns group 7 on two nodes: Process of b has a message of a.
func holding(t *testing.T, n *memnet.Network) (a joined, b *rafthttp.Group, h *holder, mb *testmember.Member) {
	ma, mb := startNode(t, n, 1), startNode(t, n, 2)
	a = join(t, ma, 7, nil)
	h = &holder{release: make(chan struct{})}
	b, err := mb.Group(7, rafthttp.GroupConfig{Raft: h})
	require.NoError(t, err)
	a.AddPeer(2, []string{testmember.URLOf(2)})
	b.AddPeer(1, []string{testmember.URLOf(1)})
	time.Sleep(time.Second)
	a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, 1, nil)})
	time.Sleep(time.Second)
	require.EqualValues(t, 1, h.running.Load())
	return a, b, h, mb
}

// requireStopWaits: stop does not return while Process runs.
func requireStopWaits(t *testing.T, h *holder, stop func()) {
	var stopped atomic.Bool
	go func() { stop(); stopped.Store(true) }()
	time.Sleep(time.Second)
	running, was := h.running.Load(), stopped.Load()
	close(h.release)
	time.Sleep(time.Second)
	require.False(t, was && running > 0, "Stop returned while %d calls of Process run", running)
}

// TestStopWaitsForProcess: with messages of any kind, of a replica or of a stranger.
func TestStopWaitsForProcess(t *testing.T) {
	for k := range queue.Kinds {
		for name, known := range map[string]bool{"replica": true, "stranger": false} {
			t.Run(k.String()+" of a "+name, func(t *testing.T) {
				testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
					ma, mb := startNode(t, n, 1), startNode(t, n, 2)
					a := join(t, ma, 7, nil)
					h := &holder{release: make(chan struct{})}
					b, err := mb.Group(7, rafthttp.GroupConfig{Raft: h})
					require.NoError(t, err)
					other := join(t, mb, 8, nil)
					other.AddPeer(1, []string{testmember.URLOf(1)}) // so that the nodes have streams
					a.AddPeer(2, []string{testmember.URLOf(2)})
					if known {
						b.AddPeer(1, []string{testmember.URLOf(1)})
					}
					time.Sleep(time.Second)
					a.Send([]*raftpb.Message{ofKind(k, 1, 1)})
					time.Sleep(time.Second)
					require.EqualValues(t, 1, h.running.Load())
					requireStopWaits(t, h, b.Stop)
				})
			})
		}
	}
}

// TestStopWaitsForProcessOfARemovedReplica: also if the replica whose message it is was removed before.
func TestStopWaitsForProcessOfARemovedReplica(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		_, b, h, _ := holding(t, n)
		b.RemovePeer(1)
		requireStopWaits(t, h, b.Stop)
	})
}

// TestStopWaitsForProcessOfAMovedReplica: also if it was moved to another node.
func TestStopWaitsForProcessOfAMovedReplica(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		_, b, h, _ := holding(t, n)
		startNode(t, n, 3)
		b.AddReplica(1, 3, []string{testmember.URLOf(3)})
		requireStopWaits(t, h, b.Stop)
	})
}

// TestSecondStopOfAGroupWaits: as long as the first one.
func TestSecondStopOfAGroupWaits(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		_, b, h, _ := holding(t, n)
		go b.Stop()
		time.Sleep(time.Second)
		requireStopWaits(t, h, b.Stop)
	})
}

// TestTransportStopUnderTheLockOfIsIDRemoved: a server may call Stop under a lock that IsIDRemoved of a group takes.
func TestTransportStopUnderTheLockOfIsIDRemoved(t *testing.T) {
	for _, byPost := range []bool{true, false} {
		testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
			a, _ := pair(t, n, 1)
			m := startNode(t, n, 3)
			g := join(t, m, 1, nil)
			lock := make(chan struct{})
			var asked atomic.Int32
			g.raft.Removed = func(uint64) bool { asked.Add(1); <-lock; return false }
			a.AddPeer(3, []string{testmember.URLOf(3)})
			if !byPost {
				g.AddReplica(9, 1, []string{testmember.URLOf(1)})
			}
			time.Sleep(time.Second)
			a.Send([]*raftpb.Message{testmember.Heartbeat(3, 1, 1)})
			time.Sleep(time.Second)
			require.EqualValues(t, 1, asked.Load())
			var stopped atomic.Bool
			go func() { m.Stop(); stopped.Store(true) }()
			time.Sleep(time.Minute)
			was := stopped.Load()
			close(lock)
			time.Sleep(time.Second)
			if !was {
				t.Errorf("Stop waits for IsIDRemoved: by post %v", byPost)
			}
		})
	}
}

// TestProcessOfAReplicaThatComesBack: Process gets messages of one kind of one replica one after another, also if it was removed and added.
func TestProcessOfAReplicaThatComesBack(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a, b, h, _ := holding(t, n)
		b.RemovePeer(1)
		b.AddPeer(1, []string{testmember.URLOf(1)})
		time.Sleep(10 * time.Second)
		a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, 2, nil)})
		time.Sleep(time.Second)
		most := h.most.Load()
		close(h.release)
		require.EqualValues(t, 1, most, "calls of Process at a time, with messages of one kind of one replica")
	})
}

// TestProcessOfAStrangerThatIsAdded: also if the replica was not in the group before.
func TestProcessOfAStrangerThatIsAdded(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		m := startNode(t, n, 1)
		h := &holder{release: make(chan struct{})}
		g, err := m.Group(1, rafthttp.GroupConfig{Raft: h})
		require.NoError(t, err)
		startNode(t, n, 2)
		postGroups(t, m, batch(t, 1, testmember.MsgApp(1, 2, 1, nil)))
		synctest.Wait()
		g.AddPeer(2, []string{testmember.URLOf(2)})
		postGroups(t, m, batch(t, 1, testmember.MsgApp(1, 2, 2, nil)))
		time.Sleep(time.Second)
		most := h.most.Load()
		close(h.release)
		require.EqualValues(t, 1, most)
	})
}

// TestContextOfProcessEndsWithTheReplica: not only with the group.
func TestContextOfProcessEndsWithTheReplica(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		ma, mb := startNode(t, n, 1), startNode(t, n, 2)
		a := join(t, ma, 7, nil)
		var ended atomic.Bool
		b := join(t, mb, 7, nil)
		b.raft.OnProcess = func(ctx context.Context, _ *raftpb.Message) error { <-ctx.Done(); ended.Store(true); return nil }
		a.AddPeer(2, []string{testmember.URLOf(2)})
		b.AddPeer(1, []string{testmember.URLOf(1)})
		time.Sleep(time.Second)
		a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, 1, nil)})
		time.Sleep(time.Second)
		b.RemovePeer(1)
		synctest.Wait()
		require.True(t, ended.Load())
	})
}

// TestReplicasThatCannotBeAdded: the id 0, those of raft's local threads, and the local replica.
func TestReplicasThatCannotBeAdded(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a := join(t, startNode(t, n, 1), 7, nil)
		for _, id := range []uint64{0, 1, raft.LocalApplyThread} {
			require.Panics(t, func() { a.AddReplica(id, 2, []string{testmember.URLOf(2)}) })
		}
	})
}

// blockedReports is a Raft whose ReportUnreachable blocks.
type blockedReports struct {
	testmember.Recorder
	release chan struct{}
}

func (b *blockedReports) ReportUnreachable(uint64) { <-b.release }

// TestStopOfAGroupNeedsNoWorker: it ends although as many reports of other groups block as there are workers for them.
func TestStopOfAGroupNeedsNoWorker(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		m := startNode(t, n, 1)
		r := &blockedReports{release: make(chan struct{})}
		silent := testmember.SilentHost(n, 2)
		for id := range uint64(256) {
			g, err := m.Group(id+10, rafthttp.GroupConfig{Raft: r})
			require.NoError(t, err)
			g.AddPeer(2, silent)
			g.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1)})
		}
		good := join(t, m, 1, nil)
		good.AddPeer(2, []string{testmember.URLOf(2)})
		time.Sleep(time.Minute)
		good.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1)})
		time.Sleep(time.Minute)
		var stopped atomic.Bool
		go func() { good.Stop(); stopped.Store(true) }()
		time.Sleep(time.Minute)
		was := stopped.Load()
		close(r.release)
		time.Sleep(time.Minute)
		require.True(t, was, "Stop of a group waits for callbacks of others")
		require.NotZero(t, good.raft.Unreachables(2)) // Stop has made the report
	})
}

// TestMessageAsOfTheLocalReplica: with VerifyPeer a message of another node is not one of the local replica.
func TestMessageAsOfTheLocalReplica(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		m := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) {
			tr.VerifyPeer = func(types.ID, *tls.ConnectionState) error { return nil }
		})
		g := join(t, m, 1, nil)
		postGroups(t, m, batch(t, 1, &raftpb.Message{Type: raftpb.MsgAppResp.Enum(), To: new(uint64(1)), From: new(uint64(1)), Term: new(uint64(1)), Index: new(uint64(1 << 40))}))
		time.Sleep(time.Second)
		require.Empty(t, g.raft.Received())
		testmember.Ask(t, m.Transport, http.MethodPost, "/raft", testmember.PeerHeader(nil), testmember.PostBody(t, &raftpb.Message{Type: raftpb.MsgAppResp.Enum(), To: new(uint64(1)), From: new(uint64(1))}))
		time.Sleep(time.Second)
		require.Empty(t, m.Recorder.Received())
	})
}

// watched is a Raft that no callback may reach once Stop has returned.
type watched struct {
	stopped atomic.Bool
	t       *testing.T
	reports atomic.Int64
}

func (g *watched) check(what string) {
	if g.stopped.Load() {
		g.t.Error(what, "after Stop")
	}
}
func (g *watched) Process(context.Context, *raftpb.Message) error {
	g.check("Process")
	time.Sleep(time.Millisecond)
	g.check("Process ")
	return nil
}
func (g *watched) IsIDRemoved(uint64) bool  { g.check("IsIDRemoved"); return false }
func (g *watched) ReportUnreachable(uint64) { g.check("ReportUnreachable") }
func (g *watched) ReportSnapshot(uint64, raft.SnapshotStatus) {
	g.check("ReportSnapshot")
	g.reports.Add(1)
}

// TestGroupsComeAndGo: groups and replicas are added, moved, removed and stopped at once: each snapshot is reported once, nothing is called after Stop, and no node is left.
func TestGroupsComeAndGo(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		var ms []*testmember.Member
		for id := types.ID(1); id <= 3; id++ {
			ms = append(ms, startNode(t, n, id))
		}
		end := time.Now().Add(time.Duration(bubble.Runs(60, 15)) * time.Second)
		done := make(chan struct{})
		const workers = 18
		for w := range workers {
			go func() {
				defer func() { done <- struct{}{} }()
				r := rand.New(rand.NewPCG(uint64(w), 7))
				m := ms[w%3]
				id := uint64(w/3 + 1)
				others := []types.ID{}
				for i := types.ID(1); i <= 3; i++ {
					if i != m.ID {
						others = append(others, i)
					}
				}
				for time.Now().Before(end) {
					raf := &watched{t: t}
					g, err := m.Group(id, rafthttp.GroupConfig{Raft: raf})
					if err != nil {
						t.Error(err)
						return
					}
					snaps := int64(0)
					for range r.IntN(60) {
						o := others[r.IntN(2)]
						switch r.IntN(8) {
						case 0:
							g.AddPeer(o, []string{testmember.URLOf(o)})
						case 1:
							g.AddReplica(uint64(o), others[r.IntN(2)], []string{testmember.URLOf(o)})
						case 2:
							g.RemovePeer(o)
						case 3:
							g.RemoveAllPeers()
						case 4:
							s := snap.NewMessage(testmember.MsgSnap(o, m.ID, 7), io.NopCloser(strings.NewReader("x")), 1)
							g.SendSnapshot(s)
							snaps++
						case 5:
							time.Sleep(time.Duration(r.IntN(300)) * time.Millisecond)
						default:
							for range 5 {
								g.Send([]*raftpb.Message{testmember.Heartbeat(o, m.ID, 1), testmember.MsgApp(o, m.ID, 1, nil)})
							}
						}
					}
					g.Stop()
					raf.stopped.Store(true)
					if got := raf.reports.Load(); got != snaps {
						t.Errorf("%d reports of %d snapshots", got, snaps)
					}
				}
			}()
		}
		for range workers {
			<-done
		}
		time.Sleep(time.Second)
		for _, m := range ms {
			require.Empty(t, m.Status().Groups.Nodes)
			require.Zero(t, m.Status().Groups.Groups)
		}
	})
}
