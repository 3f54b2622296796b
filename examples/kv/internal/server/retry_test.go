package server

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/crashdisk"
	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/storage"
	"github.com/seed-4d73690b/rafthttp/memnet/rafttest"
)

// reportedNode is a raft that leads, and hears what came of its snapshots.
type reportedNode struct {
	raft.Node
	term    atomic.Uint64
	reports chan raft.SnapshotStatus
}

func (n *reportedNode) ReportSnapshot(_ uint64, status raft.SnapshotStatus) { n.reports <- status }
func (n *reportedNode) ReportUnreachable(uint64)                            {}
func (n *reportedNode) Stop()                                               {}

func (n *reportedNode) Status() (st raft.Status) {
	st.HardState = &raftpb.HardState{Term: new(n.term.Load())}
	return st
}

// follower is a member that takes everything. As a Snapshotter it has a disk that may be full.
type follower struct{ full *atomic.Bool }

func (follower) Process(context.Context, *raftpb.Message) error { return nil }
func (follower) IsIDRemoved(uint64) bool                        { return false }
func (follower) ReportUnreachable(uint64)                       {}
func (follower) ReportSnapshot(uint64, raft.SnapshotStatus)     {}

func (f follower) SaveDBFrom(r io.Reader, _ uint64) (int64, error) {
	if f.full.Load() {
		return 0, syscall.ENOSPC
	}
	return io.Copy(io.Discard, r)
}

// leaderOf returns a leader, member 2 in term 2, and its raft; the other member's disk is full.
func leaderOf(t *testing.T, full *atomic.Bool, disk *crashdisk.Disk) (*Server, *reportedNode) {
	other := follower{full}
	c := rafttest.New(t, rafttest.Config{Members: 2, Tune: func(_ uint64, tr *rafthttp.Transport) { tr.Snapshotter = other }})
	c.Start(1, other)
	cfg := Config{ID: 2, DataDir: t.TempDir(), PeerURL: memberURL(2), ClientURL: "http://127.0.0.1:9"}
	require.NoError(t, cfg.fill())
	s, node := newServer(cfg), &reportedNode{reports: make(chan raft.SnapshotStatus, 1)}
	var err error
	s.snapshots, err = openSnapshots(cfg.DataDir)
	require.NoError(t, err)
	s.storage, err = storage.Open(cfg.DataDir, storage.Options{MmapBytes: 1 << 16, Disk: disk})
	require.NoError(t, err)
	commitMembers(t, s.storage, 3, 1, 1, 2)
	node.term.Store(2)
	s.node = node
	s.transport = c.Start(2, receiver{s}).Transport
	t.Cleanup(s.close)
	return s, node
}

func msgSnap() *raftpb.Message {
	return &raftpb.Message{Type: raftpb.MsgSnap.Enum(), From: new(uint64(2)), To: new(uint64(1)), Term: new(uint64(2))}
}

// A follower whose disk is full, or a leader that can make no copy, costs a copy now and then, and not one at each heartbeat.
// Between them no place is taken, and no entries are kept.
func TestSnapshotsAreRetriedLessAndLess(t *testing.T) {
	for name, noCopy := range map[string]bool{"the follower's disk is full": false, "the leader can make no copy": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var full atomic.Bool
				full.Store(!noCopy)
				disk := &crashdisk.Disk{}
				disk.Full.Store(noCopy)
				s, node := leaderOf(t, &full, disk)
				done := make(chan error, 1)
				go func() {
					for { // raft asks again at the next heartbeat
						s.sendSnapshot(msgSnap())
						select {
						case status := <-node.reports:
							if status == raft.SnapshotFinish {
								done <- nil
								return
							}
						case <-s.life.Done():
							done <- errors.New("it was not sent")
							return
						}
						time.Sleep(100 * time.Millisecond)
					}
				}()
				time.Sleep(50 * time.Second)
				require.EqualValues(t, 6, s.snapshots.counts().Failed) // after about 0, 1, 3, 7, 15 and 31 s
				require.Equal(t, uint64(100), s.snapshots.oldest(100))
				for to := uint64(10); to < 10+maxSending; to++ {
					require.True(t, s.snapshots.begin(to, 1))
				}
				for to := uint64(10); to < 10+maxSending; to++ {
					s.snapshots.end(to, true)
				}
				full.Store(false)
				disk.Full.Store(false)
				require.NoError(t, <-done)
				synctest.Wait()
				require.EqualValues(t, maxSending+1, s.snapshots.counts().Sent)
				require.Zero(t, s.snapshots.wait(1))
			})
		})
	}
}

// A snapshot that waits is not sent when its leader leads no more.
func TestSnapshotsOfAnotherTermAreNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var full atomic.Bool
		full.Store(true)
		s, node := leaderOf(t, &full, &crashdisk.Disk{})
		s.sendSnapshot(msgSnap())
		require.Equal(t, raft.SnapshotFailure, <-node.reports)
		s.sendSnapshot(msgSnap())
		node.term.Store(3)
		full.Store(false)
		time.Sleep(time.Hour)
		require.Zero(t, s.snapshots.counts().Sent)
		require.Empty(t, node.reports)
	})
}
