package rafthttp_test

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
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// gate is a Raft that knows when a callback comes too late.
type gate struct {
	recorder
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
	return g.recorder.Process(ctx, m)
}

func (g *gate) IsIDRemoved(uint64) bool { g.check(); return false }

func (g *gate) ReportUnreachable(id uint64) {
	g.check()
	g.recorder.ReportUnreachable(id)
}

func (g *gate) ReportSnapshot(id uint64, s raft.SnapshotStatus) {
	g.check()
	g.recorder.ReportSnapshot(id, s)
}

func TestStopInEveryState(t *testing.T) {
	states := map[string]func(t *testing.T, n *memnet.Network, a *member){
		"idle":    func(*testing.T, *memnet.Network, *member) {},
		"dialing": func(_ *testing.T, n *memnet.Network, a *member) { a.AddPeer(2, silentHost(n, 2)) },
		"dialing a black hole": func(_ *testing.T, n *memnet.Network, a *member) {
			n.Link("m1", "m2").Cut()
			a.AddPeer(2, silentHost(n, 2))
			a.AddRemote(3, silentHost(n, 2))
			a.Send([]*raftpb.Message{heartbeat(2, 1, 1), heartbeat(3, 1, 1)})
		},
		"streams up": func(t *testing.T, n *memnet.Network, a *member) {
			connect(t, a, startSimulated(t, n, 2, nil))
		},
		"streams up behind a black hole": func(t *testing.T, n *memnet.Network, a *member) {
			connect(t, a, startSimulated(t, n, 2, nil))
			n.Partition([]string{"m1"}, []string{"m2"})
			for i := range uint64(5000) {
				a.Send([]*raftpb.Message{msgApp(2, 1, i, make([]byte, 1000)), heartbeat(2, 1, i), message(raftpb.MsgSnap, 2)})
			}
		},
		"responses that nobody reads": func(t *testing.T, n *memnet.Network, a *member) {
			wrap(a, wrappers["with deadlines"])
			a.AddPeer(2, silentHost(n, 2))
			dialStream(t, n.Host("m2").DialContext, a, "msgapp", 2)
			synctest.Wait()
			for i := range uint64(5000) {
				a.Send([]*raftpb.Message{msgApp(2, 1, i, make([]byte, 1000))})
			}
		},
		"a post under way to a server that does not answer": func(t *testing.T, n *memnet.Network, a *member) {
			b := startSimulated(t, n, 2, nil)
			b.raft.process = func(ctx context.Context, _ *raftpb.Message) error { <-ctx.Done(); return ctx.Err() }
			a.AddPeer(2, []string{b.url})
			a.Send([]*raftpb.Message{heartbeat(2, 1, 1)})
		},
		"a peer that is being removed": func(t *testing.T, n *memnet.Network, a *member) {
			connect(t, a, startSimulated(t, n, 2, nil))
			a.RemovePeer(2)
			a.RemovePeer(2)
		},
		"a snapshot that waits": func(_ *testing.T, n *memnet.Network, a *member) {
			n.Link("m1", "m2").Cut()
			a.AddPeer(2, silentHost(n, 2))
			a.SendSnapshot(snapshotTo(2))
		},
	}
	for name, enter := range states {
		for _, settled := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				simulate(t, func(t *testing.T, n *memnet.Network) {
					g := &gate{}
					a := startSimulated(t, n, 1, func(tr *rafthttp.Transport) { tr.Raft = g })
					enter(t, n, a)
					if settled {
						time.Sleep(100 * time.Millisecond)
						synctest.Wait()
					}
					soon(t, func() {
						var both sync.WaitGroup
						both.Go(a.Stop)
						both.Go(a.Stop)
						both.Wait()
						g.closed.Store(true)
					})
					soon(t, a.Stop)
					require.Zero(t, a.ActivePeers())
					require.Empty(t, a.Status().Peers)
					time.Sleep(time.Minute)
					require.Zero(t, g.late.Load(), "callbacks after Stop")
				})
			})
		}
	}
}

func snapshotTo(id types.ID) *snap.Message {
	m := message(raftpb.MsgSnap, id)
	m.Snapshot = &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: new(uint64(1)), Term: new(uint64(1))}}
	return snap.NewMessage(m, http.NoBody, 0)
}

func TestStopWaitsForProcess(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		a, b := startSimulated(t, n, 1, nil), startSimulated(t, n, 2, nil)
		var running atomic.Int32
		b.raft.process = func(ctx context.Context, _ *raftpb.Message) error {
			running.Add(1)
			defer running.Add(-1)
			<-ctx.Done()
			time.Sleep(3 * time.Second)
			return nil
		}
		connect(t, a, b)
		a.Send([]*raftpb.Message{msgApp(2, 1, 1, nil), heartbeat(2, 1, 1), message(raftpb.MsgProp, 2)})
		within(t, time.Second, func() bool { return running.Load() == 3 })
		start := time.Now()
		b.Stop()
		require.Equal(t, 3*time.Second, time.Since(start))
		require.Zero(t, running.Load())
	})
}

func TestBeforeStart(t *testing.T) {
	tr := &rafthttp.Transport{ID: 1, Raft: &recorder{}}
	tr.Stop()
	tr.Send([]*raftpb.Message{heartbeat(2, 1, 1)})
	tr.RemovePeer(2)
	tr.RemoveAllPeers()
	tr.UpdatePeer(2, []string{refuse})
	tr.CutPeer(2)
	tr.MendPeer(2)
	tr.Pause()
	tr.Resume()
	require.Nil(t, tr.Get(2))
	require.Zero(t, tr.ActivePeers())
	require.Zero(t, tr.ActiveSince(2))
	require.Zero(t, tr.Status())
	m := snapshotTo(2)
	tr.SendSnapshot(m)
	require.False(t, <-m.CloseNotify())
	require.Panics(t, func() { tr.AddPeer(2, []string{refuse}) })
	require.Panics(t, func() { tr.AddRemote(2, []string{refuse}) })
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
	a := startMember(t, 1, func(tr *rafthttp.Transport) { tr.Raft = g })
	a.AddPeer(2, []string{refuse})
	peer := a.Get(2)
	a.Stop()
	g.closed.Store(true)
	a.Stop()
	require.NotNil(t, peer)
	require.PanicsWithValue(t, "rafthttp: AddPeer after Stop: transport stopped", func() { a.AddPeer(3, []string{refuse}) })
	a.AddRemote(4, []string{refuse})
	for id := range types.ID(5) {
		a.Send([]*raftpb.Message{msgApp(id, 1, 1, nil), heartbeat(id, 1, 1), message(raftpb.MsgSnap, id)})
		a.RemovePeer(id)
		a.UpdatePeer(id, []string{refuse})
		a.CutPeer(id)
		a.MendPeer(id)
		require.Nil(t, a.Get(id))
		require.Zero(t, a.ActiveSince(id))
		m := snapshotTo(id)
		a.SendSnapshot(m)
		require.False(t, <-m.CloseNotify())
	}
	peer.(rafthttp.Pausable).Pause()
	peer.(rafthttp.Pausable).Resume()
	a.RemoveAllPeers()
	a.Pause()
	a.Resume()
	require.Empty(t, a.Status().Remotes)
	resp, err := http.Post(a.url+rafthttp.RaftPrefix, "application/protobuf", bytes.NewReader(nil))
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
		a := startMember(t, 1, func(tr *rafthttp.Transport) { tr.Raft = g })
		b := startMember(t, 2, nil)
		connect(t, a, b)
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
			func() { a.Send([]*raftpb.Message{msgApp(2, 1, 1, nil), heartbeat(2, 1, 1), heartbeat(3, 1, 1)}) },
			func() {
				b.Send([]*raftpb.Message{msgApp(1, 2, 1, nil), heartbeat(1, 2, 1), message(raftpb.MsgSnap, 1)})
			},
			func() { a.SendSnapshot(snapshotTo(2)) },
			func() {
				defer func() { _ = recover() }() // AddPeer after Stop
				a.AddPeer(2, []string{b.url})
			},
			func() { a.RemovePeer(2) },
			func() { a.RemoveAllPeers() },
			func() { a.UpdatePeer(2, []string{b.url}) },
			func() { _ = a.SetURLs(types.MustNewURLs([]string{a.url})) },
			func() { a.AddRemote(3, []string{b.url}) },
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
		eventually(t, func() bool { return calls.Load() > 500 })
		a.Stop()
		g.closed.Store(true)
		before := calls.Load()
		eventually(t, func() bool { return calls.Load() > before+500 })
		close(stopped)
		wg.Wait()
		require.Zero(t, g.late.Load(), "callbacks after Stop")
	}
}

// TestRemovePeer: messages to it are ignored then, and it may be added again.
func TestRemovePeer(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		a, b := connected(t, n)
		a.RemovePeer(2)
		a.RemovePeer(2)
		require.Nil(t, a.Get(2))
		require.Zero(t, a.ActivePeers())
		require.Zero(t, a.ActiveSince(2))
		require.Empty(t, a.Status().Peers)
		synctest.Wait()
		reports := a.raft.unreachables(2)
		a.Send([]*raftpb.Message{msgApp(2, 1, 1, nil)})
		time.Sleep(time.Minute)
		require.Empty(t, b.raft.received())
		require.Equal(t, reports, a.raft.unreachables(2))

		a.AddPeer(2, []string{b.url})
		a.AddPeer(2, []string{refuse}) // is a peer already
		a.AddPeer(1, []string{refuse}) // ourselves
		require.Nil(t, a.Get(1))
		waitStreams(t, a, 2)
		a.Send([]*raftpb.Message{msgApp(2, 1, 1, nil)})
		within(t, time.Second, func() bool { return len(b.raft.received()) == 1 })
	})
}

// TestEndsWithoutWarnings: that a peer falls silent because we stop, or have
// removed it, is nothing to look into.
func TestEndsWithoutWarnings(t *testing.T) {
	for name, end := range map[string]func(*member){
		"Stop":       func(m *member) { m.Stop() },
		"RemovePeer": func(m *member) { m.RemovePeer(2) },
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T, n *memnet.Network) {
				logs, lines := logged(zap.NewAtomicLevelAt(zap.WarnLevel))
				a := startSimulated(t, n, 1, logs)
				b := startSimulated(t, n, 2, nil)
				connect(t, a, b)
				within(t, time.Second, func() bool { return a.ActivePeers() == 1 })
				lines.TakeAll() // nobody listened yet
				end(a)
				synctest.Wait()
				require.Empty(t, lines.All())
			})
		})
	}
}

func TestCutAndPause(t *testing.T) {
	tests := map[string]struct{ cut, mend func(*member) }{
		"CutPeer": {func(m *member) { m.CutPeer(2) }, func(m *member) { m.MendPeer(2) }},
		"Pause":   {func(m *member) { m.Pause() }, func(m *member) { m.Resume() }},
		"peer": {
			func(m *member) { m.Get(2).(rafthttp.Pausable).Pause() },
			func(m *member) { m.Get(2).(rafthttp.Pausable).Resume() },
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T, n *memnet.Network) {
				a, b := connected(t, n)
				toB := []*raftpb.Message{msgApp(2, 1, 1, nil), heartbeat(2, 1, 1), message(raftpb.MsgSnap, 2)}
				toA := []*raftpb.Message{msgApp(1, 2, 1, nil), heartbeat(1, 2, 1), message(raftpb.MsgSnap, 1)}
				tt.cut(a)
				a.Send(toB)
				b.Send(toA)
				m := snapshotTo(2)
				a.SendSnapshot(m)
				require.False(t, <-m.CloseNotify())
				time.Sleep(time.Minute)
				require.Empty(t, a.raft.received())
				require.Empty(t, b.raft.received())
				require.NotZero(t, a.raft.unreachables(2))
				require.Equal(t, []raft.SnapshotStatus{raft.SnapshotFailure, raft.SnapshotFailure}, a.raft.snapshotReports())
				require.Equal(t, []raft.SnapshotStatus{raft.SnapshotFailure}, b.raft.snapshotReports())

				tt.mend(a)
				toA[0].Index = new(uint64(2)) // the first is taken to be under way, until the read timeout
				a.Send(toB)
				b.Send(toA)
				within(t, time.Second, func() bool { return len(a.raft.received()) == 3 && len(b.raft.received()) == 3 })
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
		rec := &recorder{}
		tr := &rafthttp.Transport{ID: 1, ClusterID: testCluster, Raft: rec}
		require.NoError(t, tr.Start())
		r := hangingReader{make(chan struct{})}
		defer close(r.stand)
		m := snapshotTo(9)
		tr.SendSnapshot(snap.NewMessage(m.Message, r, 1))
		start := time.Now()
		tr.Stop()
		require.LessOrEqual(t, time.Since(start), 2*time.Second)
		require.Equal(t, []raft.SnapshotStatus{raft.SnapshotFailure}, rec.snapshotReports())
	})
}
