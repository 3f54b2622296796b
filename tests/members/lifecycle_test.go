package members_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// gate is a Raft that knows when a callback comes too late.
type gate struct {
	testmember.Recorder
	closed atomic.Bool
	late   atomic.Int32
}

func (g *gate) check() {
	if g.closed.Load() {
		g.late.Add(1)
	}
}

func (g *gate) Process(ctx context.Context, m *raftpb.Message) error {
	g.check()
	defer g.check()
	return g.Recorder.Process(ctx, m)
}

func (g *gate) IsIDRemoved(uint64) bool { g.check(); return false }

func (g *gate) ReportUnreachable(id uint64) {
	g.check()
	g.Recorder.ReportUnreachable(id)
}

func (g *gate) ReportSnapshot(id uint64, s raft.SnapshotStatus) {
	g.check()
	g.Recorder.ReportSnapshot(id, s)
}

func TestStopInEveryState(t *testing.T) {
	states := map[string]func(t *testing.T, n *memnet.Network, a *testmember.Member){
		"idle":    func(*testing.T, *memnet.Network, *testmember.Member) {},
		"dialing": func(_ *testing.T, n *memnet.Network, a *testmember.Member) { a.AddPeer(2, testmember.SilentHost(n, 2)) },
		"dialing a black hole": func(_ *testing.T, n *memnet.Network, a *testmember.Member) {
			n.Link("m1", "m2").Cut()
			a.AddPeer(2, testmember.SilentHost(n, 2))
			a.AddRemote(3, testmember.SilentHost(n, 2))
			a.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1), testmember.Heartbeat(3, 1, 1)})
		},
		"streams up": func(t *testing.T, n *memnet.Network, a *testmember.Member) {
			testmember.Connect(t, a, testmember.StartSimulated(t, n, 2, nil))
		},
		"streams up behind a black hole": func(t *testing.T, n *memnet.Network, a *testmember.Member) {
			testmember.Connect(t, a, testmember.StartSimulated(t, n, 2, nil))
			n.Partition([]string{"m1"}, []string{"m2"})
			for i := range uint64(5000) {
				a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, i, make([]byte, 1000)), testmember.Heartbeat(2, 1, i), testmember.Message(raftpb.MsgSnap, 2)})
			}
		},
		"responses that nobody reads": func(t *testing.T, n *memnet.Network, a *testmember.Member) {
			testmember.WrapWriters(a, testmember.Writers["with deadlines"])
			a.AddPeer(2, testmember.SilentHost(n, 2))
			testmember.DialStream(t, n.Host("m2").DialContext, a, "msgapp", 2)
			synctest.Wait()
			for i := range uint64(5000) {
				a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, i, make([]byte, 1000))})
			}
		},
		"a post under way to a server that does not answer": func(t *testing.T, n *memnet.Network, a *testmember.Member) {
			b := testmember.StartSimulated(t, n, 2, nil)
			b.Recorder.OnProcess = func(ctx context.Context, _ *raftpb.Message) error { <-ctx.Done(); return ctx.Err() }
			a.AddPeer(2, []string{b.URL})
			a.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1)})
		},
		"a peer that is being removed": func(t *testing.T, n *memnet.Network, a *testmember.Member) {
			testmember.Connect(t, a, testmember.StartSimulated(t, n, 2, nil))
			a.RemovePeer(2)
			a.RemovePeer(2)
		},
		"a snapshot that waits": func(_ *testing.T, n *memnet.Network, a *testmember.Member) {
			n.Link("m1", "m2").Cut()
			a.AddPeer(2, testmember.SilentHost(n, 2))
			a.SendSnapshot(testmember.SnapshotTo(2))
		},
	}
	for name, enter := range states {
		for _, settled := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
					g := &gate{}
					a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) { tr.Raft = g })
					enter(t, n, a)
					if settled {
						time.Sleep(100 * time.Millisecond)
						synctest.Wait()
					}
					testmember.Soon(t, func() {
						var both sync.WaitGroup
						both.Go(a.Stop)
						both.Go(a.Stop)
						both.Wait()
						g.closed.Store(true)
					})
					testmember.Soon(t, a.Stop)
					require.Zero(t, a.ActivePeers())
					require.Empty(t, a.Status().Peers)
					time.Sleep(time.Minute)
					require.Zero(t, g.late.Load(), "callbacks after Stop")
				})
			})
		}
	}
}

func TestStopWaitsForProcess(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a, b := testmember.StartSimulated(t, n, 1, nil), testmember.StartSimulated(t, n, 2, nil)
		var running atomic.Int32
		b.Recorder.OnProcess = func(ctx context.Context, _ *raftpb.Message) error {
			running.Add(1)
			defer running.Add(-1)
			<-ctx.Done()
			time.Sleep(3 * time.Second)
			return nil
		}
		testmember.Connect(t, a, b)
		a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, 1, nil), testmember.Heartbeat(2, 1, 1), testmember.Message(raftpb.MsgProp, 2)})
		testmember.Within(t, time.Second, func() bool { return running.Load() == 3 })
		start := time.Now()
		b.Stop()
		require.Equal(t, 3*time.Second, time.Since(start))
		require.Zero(t, running.Load())
	})
}

func TestBeforeStart(t *testing.T) {
	tr := &rafthttp.Transport{ID: 1, Raft: &testmember.Recorder{}}
	tr.Stop()
	tr.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1)})
	tr.RemovePeer(2)
	tr.RemoveAllPeers()
	tr.UpdatePeer(2, []string{testmember.RefusingURL})
	tr.CutPeer(2)
	tr.MendPeer(2)
	tr.Pause()
	tr.Resume()
	require.Nil(t, tr.Get(2))
	require.Zero(t, tr.ActivePeers())
	require.Zero(t, tr.ActiveSince(2))
	require.Zero(t, tr.Status())
	m := testmember.SnapshotTo(2)
	tr.SendSnapshot(m)
	require.False(t, <-m.CloseNotify())
	require.Panics(t, func() { tr.AddPeer(2, []string{testmember.RefusingURL}) })
	require.Panics(t, func() { tr.AddRemote(2, []string{testmember.RefusingURL}) })
	w := httptest.NewRecorder()
	tr.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, rafthttp.RaftPrefix, strings.NewReader("")))
	require.Equal(t, http.StatusServiceUnavailable, w.Code)

	require.NoError(t, tr.Start())
	require.ErrorContains(t, tr.Start(), "before")
	tr.Stop()
	require.Error(t, tr.Start())
}

func TestAfterStop(t *testing.T) {
	g := &gate{}
	a := testmember.Start(t, 1, func(tr *rafthttp.Transport) { tr.Raft = g })
	a.AddPeer(2, []string{testmember.RefusingURL})
	peer := a.Get(2)
	a.Stop()
	g.closed.Store(true)
	a.Stop()
	require.NotNil(t, peer)
	require.PanicsWithValue(t, "rafthttp: AddPeer after Stop: transport stopped", func() { a.AddPeer(3, []string{testmember.RefusingURL}) })
	a.AddRemote(4, []string{testmember.RefusingURL})
	for id := range types.ID(5) {
		a.Send([]*raftpb.Message{testmember.MsgApp(id, 1, 1, nil), testmember.Heartbeat(id, 1, 1), testmember.Message(raftpb.MsgSnap, id)})
		a.RemovePeer(id)
		a.UpdatePeer(id, []string{testmember.RefusingURL})
		a.CutPeer(id)
		a.MendPeer(id)
		require.Nil(t, a.Get(id))
		require.Zero(t, a.ActiveSince(id))
		m := testmember.SnapshotTo(id)
		a.SendSnapshot(m)
		require.False(t, <-m.CloseNotify())
	}
	peer.(rafthttp.Pausable).Pause()
	peer.(rafthttp.Pausable).Resume()
	a.RemoveAllPeers()
	a.Pause()
	a.Resume()
	require.Empty(t, a.Status().Remotes)
	resp, err := http.Post(a.URL+rafthttp.RaftPrefix, "application/protobuf", bytes.NewReader(nil))
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
	http.DefaultClient.CloseIdleConnections()
	require.Zero(t, g.late.Load())
}

// TestStopDuringEveryMethod runs every method against Stop; the race detector
// and the leak check have the word.
func TestStopDuringEveryMethod(t *testing.T) {
	for range 2 {
		g := &gate{}
		a := testmember.Start(t, 1, func(tr *rafthttp.Transport) { tr.Raft = g })
		b := testmember.Start(t, 2, nil)
		testmember.Connect(t, a, b)
		stopped := make(chan struct{})
		running := func() bool {
			select {
			case <-stopped:
				return false
			default:
				return true
			}
		}
		var calls atomic.Int64
		var wg sync.WaitGroup
		for _, call := range []func(){
			func() {
				a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, 1, nil), testmember.Heartbeat(2, 1, 1), testmember.Heartbeat(3, 1, 1)})
			},
			func() {
				b.Send([]*raftpb.Message{testmember.MsgApp(1, 2, 1, nil), testmember.Heartbeat(1, 2, 1), testmember.Message(raftpb.MsgSnap, 1)})
			},
			func() { a.SendSnapshot(testmember.SnapshotTo(2)) },
			func() {
				defer func() { _ = recover() }() // AddPeer after Stop
				a.AddPeer(2, []string{b.URL})
			},
			func() { a.RemovePeer(2) },
			func() { a.RemoveAllPeers() },
			func() { a.UpdatePeer(2, []string{b.URL}) },
			func() { _ = a.SetURLs(types.MustNewURLs([]string{a.URL})) },
			func() { a.SetConfState(&raftpb.ConfState{Voters: []uint64{1, 2}}); a.Health() },
			func() { a.AddRemote(3, []string{b.URL}) },
			func() { a.Pause(); a.Resume(); a.CutPeer(2); a.MendPeer(2) },
			func() { a.Status(); a.ActivePeers(); a.ActiveSince(2); a.Get(2); a.Handler() },
		} {
			wg.Go(func() {
				for running() {
					call()
					calls.Add(1)
				}
			})
		}
		testmember.Eventually(t, func() bool { return calls.Load() > 500 })
		a.Stop()
		g.closed.Store(true)
		before := calls.Load()
		testmember.Eventually(t, func() bool { return calls.Load() > before+500 })
		close(stopped)
		wg.Wait()
		require.Zero(t, g.late.Load(), "callbacks after Stop")
	}
}

// TestRemovePeer: messages to it are ignored then, and it may be added again.
func TestRemovePeer(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a, b := testmember.Connected(t, n)
		a.RemovePeer(2)
		a.RemovePeer(2)
		require.Nil(t, a.Get(2))
		require.Zero(t, a.ActivePeers())
		require.Zero(t, a.ActiveSince(2))
		require.Empty(t, a.Status().Peers)
		synctest.Wait()
		reports := a.Recorder.Unreachables(2)
		a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, 1, nil)})
		time.Sleep(time.Minute)
		require.Empty(t, b.Recorder.Received())
		require.Equal(t, reports, a.Recorder.Unreachables(2))

		a.AddPeer(2, []string{b.URL})
		a.AddPeer(2, []string{testmember.RefusingURL}) // is a peer already
		a.AddPeer(1, []string{testmember.RefusingURL}) // ourselves
		require.Nil(t, a.Get(1))
		testmember.WaitStreams(t, a, 2)
		a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, 1, nil)})
		testmember.Within(t, time.Second, func() bool { return len(b.Recorder.Received()) == 1 })
	})
}

// TestEndsWithoutWarnings: that a peer falls silent because we stop, or have
// removed it, is nothing to look into.
func TestEndsWithoutWarnings(t *testing.T) {
	for name, end := range map[string]func(*testmember.Member){
		"Stop":       func(m *testmember.Member) { m.Stop() },
		"RemovePeer": func(m *testmember.Member) { m.RemovePeer(2) },
	} {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				logs, lines := testmember.Logged(zap.NewAtomicLevelAt(zap.WarnLevel))
				a := testmember.StartSimulated(t, n, 1, logs)
				b := testmember.StartSimulated(t, n, 2, nil)
				testmember.Connect(t, a, b)
				testmember.Within(t, time.Second, func() bool { return a.ActivePeers() == 1 })
				lines.TakeAll() // nobody listened yet
				end(a)
				synctest.Wait()
				require.Empty(t, lines.All())
			})
		})
	}
}

func TestCutAndPause(t *testing.T) {
	tests := map[string]struct{ cut, mend func(*testmember.Member) }{
		"CutPeer": {func(m *testmember.Member) { m.CutPeer(2) }, func(m *testmember.Member) { m.MendPeer(2) }},
		"Pause":   {func(m *testmember.Member) { m.Pause() }, func(m *testmember.Member) { m.Resume() }},
		"peer": {
			func(m *testmember.Member) { m.Get(2).(rafthttp.Pausable).Pause() },
			func(m *testmember.Member) { m.Get(2).(rafthttp.Pausable).Resume() },
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				a, b := testmember.Connected(t, n)
				toB := []*raftpb.Message{testmember.MsgApp(2, 1, 1, nil), testmember.Heartbeat(2, 1, 1), testmember.Message(raftpb.MsgSnap, 2)}
				toA := []*raftpb.Message{testmember.MsgApp(1, 2, 1, nil), testmember.Heartbeat(1, 2, 1), testmember.Message(raftpb.MsgSnap, 1)}
				tt.cut(a)
				a.Send(toB)
				b.Send(toA)
				m := testmember.SnapshotTo(2)
				a.SendSnapshot(m)
				require.False(t, <-m.CloseNotify())
				time.Sleep(time.Minute)
				require.Empty(t, a.Recorder.Received())
				require.Empty(t, b.Recorder.Received())
				require.NotZero(t, a.Recorder.Unreachables(2))
				require.Equal(t, []raft.SnapshotStatus{raft.SnapshotFailure, raft.SnapshotFailure}, a.Recorder.SnapshotReports())
				require.Equal(t, []raft.SnapshotStatus{raft.SnapshotFailure}, b.Recorder.SnapshotReports())

				tt.mend(a)
				toA[0].Index = new(uint64(2)) // the first is taken to be under way, until the read timeout
				a.Send(toB)
				b.Send(toA)
				testmember.Within(t, time.Second, func() bool { return len(a.Recorder.Received()) == 3 && len(b.Recorder.Received()) == 3 })
			})
		})
	}
}

// hangingReader is the reader of a snapshot whose Close does not return.
type hangingReader struct{ stand chan struct{} }

func (hangingReader) Read([]byte) (int, error) { return 0, io.EOF }

func (r hangingReader) Close() error {
	<-r.stand
	return nil
}

// TestSnapshotToNobodyHangsInClose: it is reported, and holds up no Stop.
func TestSnapshotToNobodyHangsInClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := &testmember.Recorder{}
		tr := &rafthttp.Transport{ID: 1, ClusterID: testmember.ClusterID, Raft: rec}
		require.NoError(t, tr.Start())
		r := hangingReader{make(chan struct{})}
		defer close(r.stand)
		m := testmember.SnapshotTo(9)
		tr.SendSnapshot(snap.NewMessage(m.Message, r, 1))
		start := time.Now()
		tr.Stop()
		require.LessOrEqual(t, time.Since(start), 2*time.Second)
		require.Equal(t, []raft.SnapshotStatus{raft.SnapshotFailure}, rec.SnapshotReports())
	})
}
