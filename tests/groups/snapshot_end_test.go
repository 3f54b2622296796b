package groups_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
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
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// ends are the ways in which a snapshot of group 7 to replica 2 ends early, and whether the report comes before they return.
var ends = map[string]struct {
	end   func(a joined, ma *testmember.Member)
	joins bool
}{
	"replica removed":      {func(a joined, _ *testmember.Member) { a.RemovePeer(2) }, false},
	"all replicas removed": {func(a joined, _ *testmember.Member) { a.RemoveAllPeers() }, false},
	"replica moved":        {func(a joined, _ *testmember.Member) { a.AddReplica(2, 3, []string{testmember.RefusingURL}) }, false},
	"group stopped":        {func(a joined, _ *testmember.Member) { a.Stop() }, true},
	"transport stopped":    {func(_ joined, ma *testmember.Member) { ma.Stop() }, true},
	"group stopped while the transport is": {func(a joined, ma *testmember.Member) {
		go a.Stop()
		ma.Stop()
		a.Stop()
	}, true},
}

// TestGroupSnapshotEnds: whatever ends it while it waits, opens its reader, or is sent, there is exactly one report,
// one Close, and one value of CloseNotify, and none of the reports comes after Stop.
func TestGroupSnapshotEnds(t *testing.T) {
	for name, c := range ends {
		for _, when := range []string{"waiting", "opening", "sending"} {
			t.Run(name+" while "+when, func(t *testing.T) {
				testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
					tune := func(tr *rafthttp.Transport) { tr.Raft, tr.MaxSnapshots = rafthttp.NoRaft{}, 1 }
					ma, mb := testmember.StartSimulated(t, n, 1, tune), testmember.StartSimulated(t, n, 2, nil)
					other, _ := connect(t, ma, mb, 8, testmember.SavesAll)
					a, _ := connect(t, ma, mb, 7, testmember.SavesAll)
					time.Sleep(time.Second)
					if when == "waiting" {
						other.SendSnapshot(snap.NewMessage(testmember.MsgSnap(2, 1, 7), testmember.Throttled(make([]byte, 1000), 1, time.Second), 1000))
						synctest.Wait()
					}
					db, may := testmember.BlockingReader([]byte("data")), make(chan struct{})
					var opens atomic.Int32
					m := snap.NewMessage(testmember.MsgSnap(2, 1, 7), nil, 1000)
					m.Open = func() (io.ReadCloser, error) {
						if opens.Add(1); when == "opening" {
							<-may
						}
						return db, nil
					}
					a.SendSnapshot(m)
					synctest.Wait()
					c.end(a, ma)
					reports := len(a.raft.SnapshotReports())
					require.True(t, !c.joins || reports == 1, "%d reports when Stop returned", reports)
					require.False(t, <-m.CloseNotify())
					close(may)
					time.Sleep(time.Minute)
					require.Empty(t, m.CloseNotify())
					require.Equal(t, []raft.SnapshotStatus{raft.SnapshotFailure}, a.raft.SnapshotReports())
					if when == "waiting" {
						require.Zero(t, opens.Load())
					} else {
						require.EqualValues(t, 1, opens.Load())
						require.EqualValues(t, 1, db.Closes.Load())
					}
				})
			})
		}
	}
}

// TestGroupSnapshotOpenFails: there is one report, the reader is closed if it was opened, and the next snapshot has the place.
func TestGroupSnapshotOpenFails(t *testing.T) {
	for name, c := range map[string]struct {
		open   func(db *testmember.Database) (io.ReadCloser, error)
		closes int32
	}{
		"fails":  {func(*testmember.Database) (io.ReadCloser, error) { return nil, errors.New("no such file") }, 0},
		"panics": {func(*testmember.Database) (io.ReadCloser, error) { panic("in Open") }, 0},
		"hangs": {func(db *testmember.Database) (io.ReadCloser, error) {
			time.Sleep(time.Minute)
			return db, nil
		}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				tune := func(tr *rafthttp.Transport) { tr.Raft, tr.MaxSnapshots = rafthttp.NoRaft{}, 1 }
				ma, mb := testmember.StartSimulated(t, n, 1, tune), startNode(t, n, 2)
				a, b := connect(t, ma, mb, 7, testmember.SavesAll)
				db := &testmember.Database{Reader: strings.NewReader("database")}
				m := snap.NewMessage(testmember.MsgSnap(2, 1, 7), nil, 8)
				m.Open = func() (io.ReadCloser, error) { return c.open(db) }
				a.SendSnapshot(m)
				synctest.Wait()
				next, nextDB := small("database")
				next.Snapshot.Metadata.Index = new(uint64(8))
				a.SendSnapshot(next)
				require.False(t, <-m.CloseNotify())
				testmember.RequireEnd(t, next, nextDB, true, a.raft, raft.SnapshotFailure, raft.SnapshotFinish)
				require.Equal(t, c.closes, db.Closes.Load())
				require.Len(t, b.raft.Received(), 1)
				require.Zero(t, a.raft.Unreachables(2))
			})
		})
	}
}

// TestGroupStopsWhileItReceives: Stop waits for the Snapshotter and for Process, and nothing of the group is called after it.
func TestGroupStopsWhileItReceives(t *testing.T) {
	for name, stop := range map[string]func(b joined, mb *testmember.Member){
		"group": func(b joined, _ *testmember.Member) { b.Stop() }, "transport": func(_ joined, mb *testmember.Member) { mb.Stop() },
		"group and then transport": func(b joined, mb *testmember.Member) {
			left := make(chan struct{})
			go func() {
				defer close(left)
				b.Stop()
			}()
			synctest.Wait()
			mb.Stop()
			<-left
		},
	} {
		for _, processing := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
					ma, mb := startNode(t, n, 1), startNode(t, n, 2)
					var inside atomic.Int32
					a, b := connect(t, ma, mb, 7, testmember.Saver(func(r io.Reader, _ uint64) (int64, error) {
						inside.Add(1)
						defer inside.Add(-1)
						n, err := io.Copy(io.Discard, r)
						time.Sleep(time.Second / 2)
						return n, err
					}))
					b.raft.OnProcess = func(ctx context.Context, _ *raftpb.Message) error {
						inside.Add(1)
						defer inside.Add(-1)
						<-ctx.Done()
						time.Sleep(time.Second / 2)
						return ctx.Err()
					}
					m, db := small("database")
					if !processing {
						db = testmember.BlockingReader([]byte("data"))
						m = testmember.NewSnapshot(db, 1000)
					}
					a.SendSnapshot(m)
					time.Sleep(2 * time.Second)
					require.EqualValues(t, 1, inside.Load())
					stop(b, mb)
					require.Zero(t, inside.Load(), "a callback runs after Stop")
					testmember.RequireEnd(t, m, db, false, a.raft, raft.SnapshotFailure)
					require.Empty(t, b.raft.Received())
				})
			})
		}
	}
}

// TestGroupRemovesTheSenderOfASnapshot: a snapshot that waits for Process is not processed, and its database is discarded.
func TestGroupRemovesTheSenderOfASnapshot(t *testing.T) {
	dir := t.TempDir()
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		store := testmember.OpenStore(t, dir)
		a, b := between(t, n, 7, store)
		time.Sleep(time.Second)
		may := make(chan struct{})
		b.raft.OnProcess = func(_ context.Context, m *raftpb.Message) error {
			<-may
			b.raft.Keep(m)
			return nil
		}
		a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, 1, nil)}) // Process blocks
		time.Sleep(time.Second)
		m, db := small("database")
		a.SendSnapshot(m)
		time.Sleep(time.Second)
		b.RemovePeer(1)
		testmember.RequireEnd(t, m, db, false, a.raft, raft.SnapshotFailure)
		close(may)
		synctest.Wait()
		require.Len(t, b.raft.Received(), 1)
		_, err := store.DBFilePath(7)
		require.Error(t, err)
	})
}

// TestGroupSnapshotFromARefusedNode: a node that VerifyPeer refuses since is cut while it sends.
func TestGroupSnapshotFromARefusedNode(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		var refused atomic.Bool
		ma := startNode(t, n, 1)
		mb := testmember.StartSimulated(t, n, 2, func(tr *rafthttp.Transport) {
			tr.VerifyPeer = func(id types.ID, _ *tls.ConnectionState) error {
				if id == 1 && refused.Load() {
					return errors.New("revoked")
				}
				return nil
			}
		})
		ended := make(chan error, 1)
		a, b := connect(t, ma, mb, 7, testmember.Saver(func(r io.Reader, _ uint64) (int64, error) {
			n, err := io.Copy(io.Discard, r)
			ended <- err
			return n, err
		}))
		a.SendSnapshot(snap.NewMessage(testmember.MsgSnap(2, 1, 7), testmember.Throttled(make([]byte, 100), 1, time.Second), 100))
		time.Sleep(20 * time.Second)
		require.Empty(t, ended)
		refused.Store(true)
		time.Sleep(12 * time.Second) // TLSRecheck is 10 s
		require.Error(t, <-ended)
		require.Empty(t, b.raft.Received())
	})
}
