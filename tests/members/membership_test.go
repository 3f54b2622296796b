package members_test

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// locking is a Raft whose reports take a lock of the application.
type locking struct {
	gate
	lock sync.Mutex
}

func (l *locking) ReportUnreachable(id uint64) {
	l.lock.Lock()
	defer l.lock.Unlock()
	l.gate.ReportUnreachable(id)
}

// blackHole dials until it is told to stop.
func blackHole(ctx context.Context, _, _ string) (net.Conn, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestAddRemoteBesideStop: an AddRemote that has to end another remote does not wait for its callbacks, and they come before Stop
// returns.
func TestAddRemoteBesideStop(t *testing.T) {
	for range 300 {
		l := &locking{}
		a := &rafthttp.Transport{ID: 1, ClusterID: testmember.ClusterID, Raft: l, DialContext: blackHole}
		require.NoError(t, a.Start())
		a.AddRemote(3, []string{"http://m3:1"})
		a.Send([]*raftpb.Message{testmember.Heartbeat(3, 1, 1), testmember.Message(raftpb.MsgSnap, 3)})
		var both sync.WaitGroup
		both.Go(func() {
			l.lock.Lock()
			defer l.lock.Unlock()
			a.AddRemote(3, []string{"http://m3:2"}) // ends the one before
		})
		both.Go(func() {
			a.Stop()
			l.closed.Store(true)
		})
		done := make(chan struct{})
		go func() {
			defer close(done)
			both.Wait()
		}()
		testmember.Eventually(t, func() bool {
			select {
			case <-done:
				return true
			default:
				return false
			}
		})
		require.Zero(t, l.late.Load(), "callbacks after Stop")
	}
}

// TestAddRemoteBesideAddPeer: whichever comes first, there is a peer, and no remote that would outlive it.
func TestAddRemoteBesideAddPeer(t *testing.T) {
	a := &rafthttp.Transport{ID: 1, ClusterID: testmember.ClusterID, Raft: &testmember.Recorder{}, DialContext: blackHole}
	require.NoError(t, a.Start())
	defer a.Stop()
	for id := types.ID(2); id < 500; id++ {
		var done atomic.Bool
		var adding sync.WaitGroup
		for range 2 {
			adding.Go(func() {
				for !done.Load() {
					a.AddRemote(id, []string{"http://m:1"})
				}
			})
		}
		testmember.Eventually(t, func() bool { return len(a.Status().Remotes) == 1 })
		a.AddPeer(id, []string{"http://m:1"})
		done.Store(true)
		adding.Wait()
		require.NotNil(t, a.Get(id))
		require.Empty(t, a.Status().Remotes)
		a.RemovePeer(id)
	}
}

// TestLearningOfAMemberBesideAddPeer: the same of a member that we learn of by its request, also where it is added and removed
// while the application is asked about it.
func TestLearningOfAMemberBesideAddPeer(t *testing.T) {
	for name, change := range map[string]func(*testmember.Member){
		"AddPeer":                func(m *testmember.Member) { m.AddPeer(2, []string{testmember.RefusingURL}) },
		"AddPeer and RemovePeer": func(m *testmember.Member) { m.AddPeer(2, []string{testmember.RefusingURL}); m.RemovePeer(2) },
	} {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				a := testmember.StartSimulated(t, n, 1, nil)
				at := testmember.NewBarrier()
				a.Recorder.Removed = func(uint64) bool { at.Pass(); return false }
				at.Close()
				var learning sync.WaitGroup
				learning.Go(func() { introduce(t, a, 2, testmember.URLOf(2)) })
				<-at.Entered
				change(a)
				at.Open()
				learning.Wait()
				require.Empty(t, a.Status().Remotes)
			})
		})
	}
}

// TestSendWhileAPeerIsReplaced: a message for a member that was removed and added again while Send was under way is sent, or
// reported.
func TestSendWhileAPeerIsReplaced(t *testing.T) {
	again := map[string]func(a, b *testmember.Member){
		"as a peer":   func(a, b *testmember.Member) { a.AddPeer(3, []string{b.URL}) },
		"as a remote": func(a, b *testmember.Member) { a.AddRemote(3, []string{b.URL}) },
	}
	for name, add := range again {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				held, at := heldLog()
				a := testmember.StartSimulated(t, n, 1, held)
				b := testmember.StartSimulated(t, n, 3, nil)
				a.AddPeer(2, testmember.SilentHost(n, 2))
				a.CutPeer(2)
				a.AddPeer(3, []string{b.URL})
				time.Sleep(time.Second)
				at.Close()
				sent := make(chan struct{})
				go func() {
					defer close(sent)
					a.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1), testmember.Heartbeat(3, 1, 7), testmember.Message(raftpb.MsgSnap, 3), testmember.Heartbeat(3, 1, 8)})
				}()
				<-at.Entered // at the first message
				a.RemovePeer(3)
				time.Sleep(time.Second) // which is done
				reports := a.Recorder.Unreachables(3)
				add(a, b)
				at.Open()
				<-sent
				time.Sleep(time.Second)
				require.Len(t, b.Recorder.Received(), 3)
				require.Len(t, a.Recorder.SnapshotReports(), 1)
				require.Equal(t, reports, a.Recorder.Unreachables(3))
			})
		})
	}
}

// TestRefusalWhileAPeerIsReplaced: what a full lane refused is reported, although the peer ends, and is added again, before that
// is done.
func TestRefusalWhileAPeerIsReplaced(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		held, at := heldLog()
		a := testmember.StartSimulated(t, n, 1, held)
		n.Link("m1", "m3").Cut()
		a.AddPeer(3, testmember.SilentHost(n, 3))
		time.Sleep(time.Minute) // its first failure is in the log
		at.Close()
		const all = 64 + 10 // what the pipeline holds, and some
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for range all {
				a.Send([]*raftpb.Message{testmember.Message(raftpb.MsgSnap, 3)})
			}
		}()
		<-at.Entered
		a.RemovePeer(3)
		time.Sleep(time.Minute)
		a.AddPeer(3, testmember.SilentHost(n, 3))
		at.Open()
		<-sent
		a.RemovePeer(3)
		time.Sleep(time.Second)
		require.Len(t, a.Recorder.SnapshotReports(), all)
	})
}

// TestSlowCallbackOfARemote: that the hook, and the log, stand still over a remote that ends costs others nothing.
func TestSlowCallbackOfARemote(t *testing.T) {
	for _, name := range []string{"Dropped", "log of one", "log of all"} {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				at := testmember.NewBarrier()
				a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) { slowCallbacks[name](tr, at) })
				b := testmember.StartSimulated(t, n, 3, nil)
				t.Cleanup(at.Open)
				n.Link("m1", "m2").Cut()
				a.AddRemote(2, testmember.SilentHost(n, 2))
				a.AddRemote(3, []string{b.URL})
				a.Send(testmember.Heartbeats(1, 2, 10))
				synctest.Wait()
				at.Close()
				testmember.Soon(t, func() { a.Send(testmember.Heartbeats(1, 2, 100)) }) // too many
				testmember.Soon(t, func() { a.AddRemote(2, []string{"http://m2:1"}) })
				testmember.Soon(t, func() { a.Send(testmember.Heartbeats(1, 3, 10)) })
				time.Sleep(time.Second)
				require.NotEmpty(t, at.Entered, "nothing stood still")
				require.Len(t, b.Recorder.Received(), 10)
			})
		})
	}
}

// TestCutDropsWhatIsQueued: what was given to a lane before CutPeer, and not written or processed yet, is dropped as what comes
// after it is.
func TestCutDropsWhatIsQueued(t *testing.T) { //nolint:funlen // a case for each queue
	const queued = 100
	cutAndMend := func(m *testmember.Member, id types.ID, at *testmember.Barrier, atOnce bool) {
		m.CutPeer(id)
		if atOnce {
			m.MendPeer(id)
		}
		at.Open()
		time.Sleep(time.Second)
		m.MendPeer(id)
		time.Sleep(time.Minute)
	}
	for _, atOnce := range []bool{false, true} {
		for _, typ := range []raftpb.MessageType{raftpb.MsgHeartbeat, raftpb.MsgApp, raftpb.MsgProp} {
			some := func(to types.ID) (ms []*raftpb.Message) {
				for range queued {
					ms = append(ms, testmember.Message(typ, to))
				}
				return ms
			}
			t.Run("stream out, "+typ.String(), func(t *testing.T) {
				testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
					at := testmember.NewBarrier()
					a := testmember.StartSimulated(t, n, 1, slowSent(at)) // after each write
					b := testmember.StartSimulated(t, n, 2, nil)
					testmember.Connect(t, a, b)
					synctest.Wait()
					at.Close()
					a.Send(some(2)[:1])
					<-at.Entered
					a.Send(some(2))
					cutAndMend(a, 2, at, atOnce)
					require.Len(t, b.Recorder.Received(), 1)
					require.NotZero(t, a.Recorder.Unreachables(2))
				})
			})
			t.Run("in, "+typ.String(), func(t *testing.T) {
				testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
					a, b := testmember.StartSimulated(t, n, 1, nil), testmember.StartSimulated(t, n, 2, nil)
					at := testmember.NewBarrier()
					b.Recorder.OnProcess = func(_ context.Context, m *raftpb.Message) error { b.Recorder.Keep(m); at.Pass(); return nil }
					testmember.Connect(t, a, b)
					at.Close()
					a.Send(some(2)[:1])
					<-at.Entered
					a.Send(some(2))
					time.Sleep(time.Second)
					cutAndMend(b, 1, at, atOnce)
					require.Len(t, b.Recorder.Received(), 1)
				})
			})
		}
		for name, add := range map[string]func(m *testmember.Member, urls []string){
			"pipeline":             func(m *testmember.Member, urls []string) { m.AddPeer(2, urls) },
			"pipeline of a remote": func(m *testmember.Member, urls []string) { m.AddRemote(2, urls) },
		} {
			t.Run(name, func(t *testing.T) {
				testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
					at := testmember.NewBarrier()
					var posts atomic.Int32
					ln, err := n.Host("m2").Listen("2380")
					require.NoError(t, err)
					s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						if r.Method == http.MethodPost {
							posts.Add(1)
							at.Pass()
						}
						w.WriteHeader(http.StatusNoContent)
					})}
					go func() { _ = s.Serve(ln) }()
					t.Cleanup(func() { s.Close() })
					a := testmember.StartSimulated(t, n, 1, nil)
					add(a, []string{testmember.URLOf(2)})
					at.Close()
					for range 50 {
						a.Send([]*raftpb.Message{testmember.Message(raftpb.MsgSnap, 2)})
					}
					synctest.Wait()
					cutAndMend(a, 2, at, atOnce)
					require.EqualValues(t, 4, posts.Load(), "those under way")
					require.Len(t, a.Recorder.SnapshotReports(), 50)
				})
			})
		}
		t.Run("snapshot", func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				at := testmember.NewBarrier()
				a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) { tr.MaxSnapshots = 1 })
				b := testmember.StartSimulated(t, n, 2, testmember.Receives(testmember.SavesAll))
				testmember.Connect(t, a, b)
				at.Close()
				first := &testmember.Database{Reader: testmember.ReaderFunc(func(p []byte) (int, error) { at.Pass(); return len(p), nil })}
				a.SendSnapshot(snap.NewMessage(testmember.MsgSnap(2, 1, 7), first, 1<<20))
				<-at.Entered
				waits := snap.NewMessage(testmember.MsgSnap(2, 1, 8), nil, 0)
				a.SendSnapshot(waits)
				cutAndMend(a, 2, at, atOnce)
				require.False(t, <-waits.CloseNotify())
			})
		})
	}
}

// slowSent is an Observer whose Sent stands still after a write that had a message.
func slowSent(at *testmember.Barrier) func(*rafthttp.Transport) {
	return func(tr *rafthttp.Transport) {
		tr.Observer = &rafthttp.Observer{Sent: func(_ types.ID, _ string, n int, _ int64, _ time.Duration) {
			if n > 0 {
				at.Pass()
			}
		}}
	}
}
