package operating_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// TestFullDiskNamesTheFolder: the receiver's log and the sender's error say where there is no room.
func TestFullDiskNamesTheFolder(t *testing.T) {
	dir := t.TempDir()
	store, err := snap.Open(dir)
	require.NoError(t, err)
	defer store.Close()
	_, err = store.PrepareDB(t.Context(), snapshot(1, 2, nil, 0).Message, 1<<60)
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.ErrorContains(t, err, " are free in "+dir)
}

// disk is a Snapshotter whose disk is full, or not.
type disk struct{ room atomic.Bool }

func (d *disk) SaveDBFrom(r io.Reader, id uint64) (int64, error) {
	if !d.room.Load() {
		return 0, &os.PathError{Op: "write", Path: "/data/db", Err: syscall.ENOSPC}
	}
	n, err := io.Copy(io.Discard, r)
	if err == nil && id == slowIndex {
		err = d.work(context.Background())
	}
	return n, err
}

// slowIndex is the index of snapshots that take a minute.
const slowIndex = 8

// process takes a minute for a snapshot without a database.
func (d *disk) process(ctx context.Context, m *raftpb.Message) error {
	if m.GetType() == raftpb.MsgSnap && m.GetSnapshot().GetMetadata().GetIndex() == slowIndex && len(m.GetContext()) == 0 {
		return d.work(ctx)
	}
	return nil
}

func (d *disk) work(ctx context.Context) error {
	select {
	case <-time.After(time.Minute):
	case <-ctx.Done():
	}
	if !d.room.Load() {
		return syscall.ENOSPC
	}
	return nil
}

// repeating sends snapshots to member 2 as raft does: the next one at the first tick after a failure was reported.
func repeating(m *node, d time.Duration, send func()) (attempts int) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		failed, sent := m.raft.reported()
		if sent > 0 {
			break
		}
		if failed == attempts {
			send()
			attempts++
		}
	}
	synctest.Wait()
	return attempts
}

// TestSnapshotBackoff: without it raft repeats a snapshot that fails with each heartbeat, and the log says what to do; with it
// the reports, of which there is still one for each snapshot, are held back longer and longer. It holds for each way on which
// a snapshot fails.
func TestSnapshotBackoff(t *testing.T) {
	for _, tt := range []struct {
		backoff time.Duration
		least   int
		most    int
	}{{0, 500, 2000}, {time.Second, 6, 9}, {2 * time.Minute, 2, 2}} {
		for _, way := range []string{"database", "message"} {
			t.Run(fmt.Sprint(way, " ", tt.backoff), func(t *testing.T) {
				simulate(t, func(t *testing.T, n *memnet.Network) {
					a := start(t, n, 1, func(tr *rafthttp.Transport) { tr.SnapshotBackoff = tt.backoff })
					b := start(t, n, 2, func(tr *rafthttp.Transport) {
						tr.Snapshotter = &disk{}
						tr.Raft.(*reports).process = refuseSnapshots
					})
					meet(a, b)
					time.Sleep(time.Second)
					closed := 0
					attempts := repeating(a, 3*time.Minute, func() {
						m := snapshot(1, 2, bytes.NewReader(make([]byte, 10)), 10)
						if way == "message" {
							a.Send([]*raftpb.Message{m.Message})
							return
						}
						a.SendSnapshot(m)
						require.False(t, <-m.CloseNotify(), "not held back")
						closed++
					})
					require.GreaterOrEqual(t, attempts, tt.least)
					require.LessOrEqual(t, attempts, tt.most)
					if tt.backoff > 0 {
						require.True(t, a.peer(t, 2).SnapshotRetryAt.After(time.Now()))
					} else {
						require.Zero(t, a.peer(t, 2).SnapshotRetryAt)
					}
					said := a.lines("raft repeats failed snapshots")
					require.Equal(t, tt.backoff == 0, len(said) > 0, "%v", said)
					require.LessOrEqual(t, len(said), 3)
					a.Stop()
					failed, _ := a.raft.reported()
					require.Equal(t, attempts, failed, "one report for each, the last with Stop")
				})
			})
		}
	}
}

func refuseSnapshots(_ context.Context, m *raftpb.Message) error {
	if m.GetType() == raftpb.MsgSnap {
		return syscall.ENOSPC
	}
	return nil
}

// TestSnapshotBackoffEndsEarly: raft is told at once when the peer becomes active, moves, or is removed, and the back-off begins
// anew after a success.
func TestSnapshotBackoffEndsEarly(t *testing.T) {
	for name, end := range map[string]func(a, b *node){
		"moved":   func(a, _ *node) { a.UpdatePeer(2, urls(2)) },
		"removed": func(a, _ *node) { a.RemovePeer(2) },
		"active": func(a, b *node) {
			b.RemovePeer(1)
			time.Sleep(10 * time.Second)
			b.AddPeer(1, urls(1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T, n *memnet.Network) {
				store := &disk{}
				a := start(t, n, 1, func(tr *rafthttp.Transport) { tr.SnapshotBackoff = time.Hour })
				b := start(t, n, 2, func(tr *rafthttp.Transport) { tr.Snapshotter = store })
				meet(a, b)
				time.Sleep(time.Second)
				for range 3 {
					a.SendSnapshot(snapshot(1, 2, strings.NewReader("db"), 2))
				}
				time.Sleep(10 * time.Minute)
				failed, _ := a.raft.reported()
				require.Zero(t, failed)
				end(a, b)
				time.Sleep(2 * time.Second)
				failed, _ = a.raft.reported()
				require.Equal(t, 3, failed)
				if name == "removed" {
					return
				}
				require.Zero(t, a.peer(t, 2).SnapshotRetryAt)
				store.room.Store(true)
				a.SendSnapshot(snapshot(1, 2, strings.NewReader("db"), 2))
				time.Sleep(time.Second)
				_, sent := a.raft.reported()
				require.Equal(t, 1, sent)
			})
		})
	}
}

// TestSnapshotReportsAreInOrder: a success is reported after the failures before it, which are held back no longer.
func TestSnapshotReportsAreInOrder(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		store := &disk{}
		a := start(t, n, 1, func(tr *rafthttp.Transport) { tr.SnapshotBackoff = time.Minute })
		b := start(t, n, 2, func(tr *rafthttp.Transport) { tr.Snapshotter = store })
		meet(a, b)
		time.Sleep(time.Second)
		send := func() {
			a.SendSnapshot(snapshot(1, 2, strings.NewReader("db"), 2))
			time.Sleep(time.Second)
		}
		send()
		send()
		require.Empty(t, a.raft.all())
		store.room.Store(true)
		send()
		want := []raft.SnapshotStatus{raft.SnapshotFailure, raft.SnapshotFailure, raft.SnapshotFinish}
		require.Equal(t, want, a.raft.all())
		store.room.Store(false)
		send()
		time.Sleep(58 * time.Second)
		require.Equal(t, want, a.raft.all(), "the back-off has begun anew")
		time.Sleep(2 * time.Second)
		require.Equal(t, append(want, raft.SnapshotFailure), a.raft.all())
	})
}

// TestHeldReportDoesNotFallIntoALaterTransfer: raft, which takes a report for that of the snapshot that it sent last, is told of a
// failure that was held back only once no later snapshot to the peer is under way, in order, whatever ends the back-off meanwhile;
// but at once of a peer that is removed.
func TestHeldReportDoesNotFallIntoALaterTransfer(t *testing.T) {
	const failure, finish = raft.SnapshotFailure, raft.SnapshotFinish
	for name, tt := range map[string]struct {
		backoff   time.Duration
		meanwhile func(a *node, later *disk) // 5 s after the later one began
		told      []raft.SnapshotStatus      // 35 s after it began, which is 25 s before its end
		after     []raft.SnapshotStatus      // at its end
		held      []raft.SnapshotStatus      // 25 s later
	}{
		"the time is over":         {10 * time.Second, nil, nil, []raft.SnapshotStatus{failure, finish}, []raft.SnapshotStatus{failure, finish}},
		"the later one fails, too": {10 * time.Second, func(_ *node, d *disk) { d.room.Store(false) }, nil, nil, []raft.SnapshotStatus{failure, failure}},
		"moved":                    {time.Hour, func(a *node, _ *disk) { a.UpdatePeer(2, append(urls(2), "http://m3:80")) }, nil, []raft.SnapshotStatus{failure, finish}, []raft.SnapshotStatus{failure, finish}},
		"resumed":                  {time.Hour, func(a *node, _ *disk) { a.MendPeer(2) }, nil, []raft.SnapshotStatus{failure, finish}, []raft.SnapshotStatus{failure, finish}},
		"removed":                  {time.Hour, func(a *node, _ *disk) { a.RemovePeer(2) }, []raft.SnapshotStatus{failure, failure}, []raft.SnapshotStatus{failure, failure}, []raft.SnapshotStatus{failure, failure}},
	} {
		for _, way := range []string{"database", "message"} {
			t.Run(name+" "+way, func(t *testing.T) {
				simulate(t, func(t *testing.T, n *memnet.Network) {
					store := &disk{}
					a := start(t, n, 1, func(tr *rafthttp.Transport) {
						tr.SnapshotBackoff, tr.ReadTimeout, tr.WriteTimeout = tt.backoff, 40*time.Second, 40*time.Second
					})
					b := start(t, n, 2, func(tr *rafthttp.Transport) {
						tr.Snapshotter, tr.Raft.(*reports).process = store, store.process
						tr.ReadTimeout, tr.WriteTimeout = 40*time.Second, 40*time.Second
					})
					meet(a, b)
					time.Sleep(time.Second)
					a.SendSnapshot(snapshot(1, 2, strings.NewReader("db"), 2))
					time.Sleep(time.Second)
					require.Empty(t, a.raft.all())
					store.room.Store(true)
					later := snapshot(1, 2, strings.NewReader("db"), 2)
					later.Snapshot.Metadata.Index = new(uint64(slowIndex))
					if way == "message" {
						a.Send([]*raftpb.Message{later.Message})
					} else {
						later.Context = []byte("with a database")
						a.SendSnapshot(later)
					}
					time.Sleep(5 * time.Second)
					if tt.meanwhile != nil {
						tt.meanwhile(a, store)
					}
					time.Sleep(30 * time.Second)
					require.Equal(t, tt.told, a.raft.all())
					if tt.told == nil {
						at := a.peer(t, 2).SnapshotRetryAt
						require.False(t, at.IsZero())
						require.False(t, at.After(time.Now()), "it waits for the later snapshot only")
					}
					time.Sleep(27 * time.Second)
					require.Equal(t, tt.after, a.raft.all())
					time.Sleep(25 * time.Second)
					require.Equal(t, tt.held, a.raft.all())
				})
			})
		}
	}
}

// TestSnapshotIsNoSlowAppend: Process may have a snapshot for a minute, and nobody waits for an append meanwhile.
func TestSnapshotIsNoSlowAppend(t *testing.T) {
	for _, way := range []string{"database", "message"} {
		t.Run(way, func(t *testing.T) {
			simulate(t, func(t *testing.T, n *memnet.Network) {
				store := &disk{}
				store.room.Store(true)
				a := start(t, n, 1, nil)
				b := start(t, n, 2, func(tr *rafthttp.Transport) {
					tr.Snapshotter, tr.Raft.(*reports).process = store, store.process
				})
				meet(a, b)
				time.Sleep(time.Second)
				slow := snapshot(1, 2, strings.NewReader("db"), 2)
				slow.Snapshot.Metadata.Index = new(uint64(slowIndex))
				if way == "message" {
					a.Send([]*raftpb.Message{slow.Message})
				} else {
					a.SendSnapshot(slow)
				}
				for range 130 {
					time.Sleep(time.Second)
					require.Nil(t, b.peer(t, 1).Appends.Slow)
				}
			})
		})
	}
}

// TestSnapshotAtTheFormerURL: one that was under way when the peer got other URLs, and fails later, says nothing of these.
func TestSnapshotAtTheFormerURL(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		store := &disk{}
		store.room.Store(true)
		a := start(t, n, 1, nil)
		b := start(t, n, 2, func(tr *rafthttp.Transport) {
			tr.Snapshotter, tr.Raft.(*reports).process = store, store.process
		})
		serve(t, n, host(3), b.Handler())
		meet(a, b)
		time.Sleep(time.Second)
		slow := snapshot(1, 2, strings.NewReader("db"), 2)
		slow.Snapshot.Metadata.Index = new(uint64(slowIndex))
		a.SendSnapshot(slow)
		time.Sleep(5 * time.Second)
		a.UpdatePeer(2, urls(3))
		time.Sleep(5 * time.Second)
		store.room.Store(false)
		time.Sleep(2 * time.Minute)
		p := a.peer(t, 2)
		require.Equal(t, []raft.SnapshotStatus{raft.SnapshotFailure}, a.raft.all())
		require.True(t, p.Active)
		require.Empty(t, p.LastError, "%v", p.URLs)
	})
}

// TestMendedRemoteIsRetried: the end of a cut ends the back-off of a remote, as that of a peer.
func TestMendedRemoteIsRetried(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		a := start(t, n, 1, func(tr *rafthttp.Transport) { tr.SnapshotBackoff = time.Hour })
		a.AddRemote(2, urls(2))
		a.Send([]*raftpb.Message{snapshot(1, 2, nil, 0).Message})
		time.Sleep(time.Minute)
		require.Empty(t, a.raft.all())
		a.CutPeer(2)
		synctest.Wait()
		require.Empty(t, a.raft.all())
		a.MendPeer(2)
		synctest.Wait()
		require.Equal(t, []raft.SnapshotStatus{raft.SnapshotFailure}, a.raft.all())
	})
}
