package members_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
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

// TestSlowCallbackCostsItsPeerOnly: whatever hook, and the log, stands still over one peer, whose streams break and whose
// messages are dropped: the streams with two others live, each message between them arrives, and Send waits for nothing.
func TestSlowCallbackCostsItsPeerOnly(t *testing.T) {
	for name, tune := range slowCallbacks {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				at := testmember.NewBarrier()
				a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) { tune(tr, at) })
				a.Recorder.OnProcess = func(_ context.Context, m *raftpb.Message) error {
					if m.GetFrom() == 2 {
						time.Sleep(time.Millisecond) // which is slow
					}
					a.Recorder.Keep(m)
					return nil
				}
				b := testmember.StartSimulated(t, n, 2, nil)
				// They notice a single heartbeat that is late.
				patience := func(tr *rafthttp.Transport) { tr.ReadTimeout = 2 * time.Second }
				others := []*testmember.Member{testmember.StartSimulated(t, n, 3, patience), testmember.StartSimulated(t, n, 4, patience)}
				t.Cleanup(at.Open) // before all of them stop
				for _, m := range append(others, b) {
					testmember.Connect(t, a, m)
				}
				synctest.Wait()
				at.Close()
				sent := 0
				for start := time.Now(); time.Since(start) < time.Minute; time.Sleep(100 * time.Millisecond) {
					switch time.Since(start) {
					case 5 * time.Second:
						n.Partition([]string{"m1"}, []string{"m2"})
					case 30 * time.Second:
						n.Heal()
					}
					b.Send(testmember.Heartbeats(2, 1, 1))
					msgs := append(testmember.Heartbeats(1, 2, 1), testmember.MsgApp(2, 1, 1, nil), testmember.Message(raftpb.MsgSnap, 2))
					for _, m := range others {
						m.Send(testmember.Heartbeats(m.ID, 1, 1))
						msgs = append(msgs, testmember.Heartbeats(1, m.ID, 1)...)
					}
					sent++
					testmember.Soon(t, func() { a.Send(msgs) })
				}
				require.NotEmpty(t, at.Entered, "nothing stood still")
				for _, m := range others {
					require.Len(t, m.Recorder.Received(), sent)
					require.Zero(t, m.Recorder.Unreachables(1), "a stream ended")
					require.Zero(t, a.Recorder.Unreachables(uint64(m.ID)), "a stream ended")
				}
			})
		})
	}
}

// TestStateChangesComeInOrder: also to a hook that is slower than they are, or stands still for long, which costs no more memory
// than a few: then pairs of them are left out.
func TestStateChangesComeInOrder(t *testing.T) {
	for name, flaps := range map[string]int{"all of a few": 5, "the last of many": 100} {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				at, seen := testmember.NewBarrier(), &testmember.States{}
				a, post := flappingPeer(t, n, func(tr *rafthttp.Transport) {
					tr.Observer = &rafthttp.Observer{PeerState: func(_ types.ID, active bool, cause error) {
						at.Pass()
						if active != (cause == nil) {
							t.Errorf("active %v, cause %v", active, cause)
						}
						seen.Told(active)
					}}
				})
				at.Close()
				for range flaps {
					post(true)
					require.Equal(t, 1, a.ActivePeers())
					post(false)
					require.Zero(t, a.ActivePeers())
				}
				post(true)
				require.Empty(t, seen.List())
				at.Open()
				synctest.Wait()
				told := seen.List()
				for i, active := range told {
					require.Equal(t, i%2 == 0, active, "the %dth of %v", i, told)
				}
				require.Len(t, told, min(2*flaps+1, 17))
			})
		})
	}
}

// TestEveryPeerThatBecameActiveBecomesInactive: also one that is removed, or whose transport stops, shortly after a post to it, or
// of it, spoke for it.
func TestEveryPeerThatBecameActiveBecomesInactive(t *testing.T) {
	ends := map[string]func(*testmember.Member){
		"RemovePeer":     func(m *testmember.Member) { m.RemovePeer(2) },
		"RemoveAllPeers": func(m *testmember.Member) { m.RemoveAllPeers() },
		"Stop":           func(m *testmember.Member) { m.Stop() },
	}
	speaks := map[string]func(t *testing.T, m *testmember.Member, post func(bool)){
		"post to it": func(_ *testing.T, _ *testmember.Member, post func(bool)) { post(true) },
		"post of it": func(t *testing.T, m *testmember.Member, _ func(bool)) { introduce(t, m, 2, testmember.URLOf(2)) },
	}
	for end, f := range ends {
		for by, speak := range speaks {
			t.Run(end+", "+by, func(t *testing.T) {
				testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
					seen := &testmember.States{}
					a, post := flappingPeer(t, n, func(tr *rafthttp.Transport) {
						tr.Observer = &rafthttp.Observer{PeerState: func(_ types.ID, active bool, _ error) { seen.Told(active) }}
					})
					speak(t, a, post)
					synctest.Wait()
					require.Equal(t, []bool{true}, seen.List())
					f(a)
					synctest.Wait()
					require.Equal(t, []bool{true, false}, seen.List())
					time.Sleep(time.Minute)
					require.Len(t, seen.List(), 2)
				})
			})
		}
	}
}

// TestDropsAreToldOnceABatch: not once a message, whatever they are dropped for.
func TestDropsAreToldOnceABatch(t *testing.T) {
	const sends, batch = 1000, 64
	for name, enter := range map[string]func(n *memnet.Network, m *testmember.Member){
		"paused": func(_ *memnet.Network, m *testmember.Member) { m.CutPeer(2) },
		"full": func(n *memnet.Network, m *testmember.Member) {
			n.Link("m1", "m2").Cut()
			m.Send(testmember.Heartbeats(1, 2, 64))
		},
	} {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				var mu sync.Mutex
				calls, dropped := 0, 0
				a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) {
					tr.Observer = &rafthttp.Observer{Dropped: func(_ types.ID, _ string, n int, _ error) {
						mu.Lock()
						defer mu.Unlock()
						calls, dropped = calls+1, dropped+n
					}}
				})
				a.AddPeer(2, testmember.SilentHost(n, 2))
				enter(n, a)
				synctest.Wait()
				require.Zero(t, calls)
				for range sends {
					a.Send(testmember.Heartbeats(1, 2, batch))
				}
				synctest.Wait()
				require.Equal(t, sends*batch, dropped)
				require.LessOrEqual(t, calls, sends)
			})
		})
	}
}

// TestNoDroppedAfterStop: not of a Send either that was under way when Stop began.
func TestNoDroppedAfterStop(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		held, at := heldLog()
		var mu sync.Mutex
		stopped, late := false, 0
		a := testmember.StartSimulated(t, n, 1, testmember.Tuned(held, func(tr *rafthttp.Transport) {
			tr.Observer = &rafthttp.Observer{Dropped: func(types.ID, string, int, error) {
				mu.Lock()
				defer mu.Unlock()
				if stopped {
					late++
				}
			}}
		}))
		a.AddPeer(2, testmember.SilentHost(n, 2))
		a.CutPeer(2)
		time.Sleep(time.Second)
		at.Close()
		var both sync.WaitGroup
		both.Go(func() { a.Send(testmember.Heartbeats(1, 2, 10)) })
		<-at.Entered // Send is at the line that it drops
		both.Go(func() {
			a.Stop()
			mu.Lock()
			defer mu.Unlock()
			stopped = true
		})
		synctest.Wait()
		at.Open()
		both.Wait()
		time.Sleep(time.Minute)
		require.Zero(t, late)
	})
}

// TestSlowSnapshotHookHoldsNoPlace: a hook that stands still over a snapshot from or to one member holds up neither that nor the
// next of another, for which there is no place while the first goes on. It is told the last of the progress, and then the end.
func TestSlowSnapshotHookHoldsNoPlace(t *testing.T) {
	type told struct {
		progress, ended []types.ID
		last            rafthttp.SnapshotStatus
	}
	for _, incoming := range []bool{true, false} {
		for _, stranger := range []bool{false, true} {
			if stranger && !incoming {
				continue
			}
			t.Run(fmt.Sprintf("incoming %v, stranger %v", incoming, stranger), func(t *testing.T) {
				testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
					at := testmember.NewBarrier()
					var mu sync.Mutex
					var got told
					end := func(id types.ID, _ uint64, _ int64, _ time.Duration, _ error) {
						at.Pass()
						mu.Lock()
						defer mu.Unlock()
						got.ended = append(got.ended, id)
					}
					a := testmember.StartSimulated(t, n, 1, testmember.Tuned(testmember.Receives(testmember.SavesAll), func(tr *rafthttp.Transport) {
						tr.MaxSnapshots = 1
						tr.Observer = &rafthttp.Observer{SnapshotSent: end, SnapshotReceived: end, SnapshotProgress: func(st rafthttp.SnapshotStatus) {
							at.Pass()
							mu.Lock()
							defer mu.Unlock()
							got.progress, got.last = append(got.progress, st.Peer), st
						}}
					}))
					at.Close()
					for _, id := range []types.ID{2, 3} {
						b := testmember.StartSimulated(t, n, id, testmember.Receives(testmember.SavesAll))
						if b.AddPeer(1, []string{a.URL}); !stranger {
							a.AddPeer(id, []string{b.URL})
						}
						from, to := a, b
						if incoming {
							from, to = b, a
						}
						slow := &testmember.Database{Reader: io.LimitReader(testmember.ReaderFunc(func(p []byte) (int, error) {
							time.Sleep(time.Second)
							return min(len(p), 1<<10), nil
						}), 10<<10)}
						m := snap.NewMessage(testmember.MsgSnap(to.ID, from.ID, 7), slow, 10<<10)
						from.SendSnapshot(m)
						require.True(t, <-m.CloseNotify(), "to %s", to.ID)
					}
					at.Open()
					synctest.Wait()
					mu.Lock()
					defer mu.Unlock()
					require.ElementsMatch(t, []types.ID{2, 3}, got.ended)
					require.Subset(t, got.progress, []types.ID{2, 3})
					require.LessOrEqual(t, len(got.progress), 4)
					require.Greater(t, got.last.Bytes, int64(5<<10))
				})
			})
		}
	}
}

// TestSlowVerifyPeerCostsItsPeerOnly: while VerifyPeer stands still over one member, another that it refuses by now is cut.
func TestSlowVerifyPeerCostsItsPeerOnly(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		at := testmember.NewBarrier()
		var refused atomic.Bool
		a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) {
			tr.VerifyPeer = func(id types.ID, _ *tls.ConnectionState) error {
				passFor(at, id)
				if id > 2 && refused.Load() {
					return rafthttp.ErrIdentity
				}
				return nil
			}
		})
		t.Cleanup(at.Open)
		for id := types.ID(2); id < 12; id++ {
			testmember.Connect(t, a, testmember.StartSimulated(t, n, id, nil))
		}
		require.Equal(t, 10, a.ActivePeers())
		refused.Store(true)
		at.Close()
		time.Sleep(25 * time.Second) // two rechecks
		require.NotEmpty(t, at.Entered, "nothing stood still")
		require.Equal(t, 1, a.ActivePeers())
		for id := types.ID(3); id < 12; id++ {
			require.False(t, testmember.LaneOf(a, id, "message").Up)
		}
		require.True(t, testmember.LaneOf(a, 2, "message").Up)
	})
}
