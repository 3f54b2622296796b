package docs_test

import (
	"context"
	"errors"
	"io"
	"log"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/memnet/rafttest"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// sender sends snapshots of a member, in its life.
type sender struct {
	raft.Node
	transport *rafthttp.Transport
	life      context.Context
	loops     sync.WaitGroup
	retries   retries
	copies    []time.Time // when they were made
	failing   bool        // no copy can be made
}

func (s *sender) sendSnapshot(m *raftpb.Message) {
	s.loops.Go(func() {
		select {
		case <-time.After(s.retries.wait(m.GetTo())): // raft asks for no other one until it has a report
		case <-s.life.Done():
			return
		}
		if s.Status().GetTerm() != m.GetTerm() {
			return // the leader of that term is none any more
		}
		sent, err := s.sendCopy(m)
		s.retries.ended(m.GetTo(), sent)
		if err != nil { // the transport has not got it, so it does not report
			s.ReportSnapshot(m.GetTo(), raft.SnapshotFailure)
		}
	})
}

// retries says how long to wait before the next snapshot for a member: longer each time that one failed.
type retries struct {
	mu    sync.Mutex
	waits map[uint64]time.Duration
}

func (r *retries) wait(to uint64) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.waits[to]
}

func (r *retries) ended(to uint64, sent bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if sent {
		delete(r.waits, to)
	} else {
		r.waits[to] = min(max(2*r.waits[to], time.Second), time.Minute)
	}
}

// sendCopy is what snapshots-and-members.md has of examples/kv.
func (s *sender) sendCopy(m *raftpb.Message) (sent bool, err error) {
	s.copies = append(s.copies, time.Now())
	if s.failing {
		return false, errors.New("no room for a copy")
	}
	const data = "color=blue"
	message := snap.NewMessage(m, io.NopCloser(strings.NewReader(data)), int64(len(data)))
	s.transport.SendSnapshot(message)
	return <-message.CloseNotify(), nil
}

func (s *sender) Process(ctx context.Context, m *raftpb.Message) error { return s.Step(ctx, m) }
func (s *sender) IsIDRemoved(uint64) bool                              { return false } // members never change

// loop is a plain loop without entries: only what elections and a snapshot need.
func (s *sender) loop(t *testing.T, memory *raft.MemoryStorage) {
	defer s.Stop()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			s.Tick()
		case rd := <-s.Ready():
			if !raft.IsEmptySnap(rd.Snapshot) && memory.ApplySnapshot(rd.Snapshot) != nil ||
				memory.Append(rd.Entries) != nil || !raft.IsEmptyHardState(rd.HardState) && memory.SetHardState(rd.HardState) != nil {
				t.Error("cannot save")
			}
			for _, m := range rd.Messages {
				if m.GetType() == raftpb.MsgSnap {
					s.sendSnapshot(m)
				} else {
					s.transport.Send([]*raftpb.Message{m})
				}
			}
			s.Advance()
		case <-s.life.Done():
			return
		}
	}
}

// smallDisk is a Snapshotter whose disk is full for some time.
type smallDisk struct{ full time.Time }

func (d *smallDisk) SaveDBFrom(r io.Reader, _ uint64) (int64, error) {
	if time.Now().Before(d.full) {
		return 0, syscall.ENOSPC
	}
	return io.Copy(io.Discard, r)
}

// TestSnapshotsAreRetriedLessAndLess: a follower whose disk is full, or a leader that can make no copy, costs a copy now and
// then, and not one at each heartbeat.
func TestSnapshotsAreRetriedLessAndLess(t *testing.T) {
	for name, failing := range map[string]bool{"the follower's disk is full": false, "the leader can make no copy": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				life, end := context.WithCancel(t.Context())
				disk := &smallDisk{full: time.Now().Add(time.Minute)}
				c := rafttest.New(t, rafttest.Config{Members: 2, Tune: func(_ uint64, t *rafthttp.Transport) { t.Snapshotter = disk }})
				leader, follower := raft.NewMemoryStorage(), raft.NewMemoryStorage()
				require.NoError(t, leader.ApplySnapshot(&raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
					Index: new(uint64(10)), Term: new(uint64(1)), ConfState: &raftpb.ConfState{Voters: []uint64{1}, Learners: []uint64{2}},
				}}))
				var all []*sender
				for i, memory := range []*raft.MemoryStorage{leader, follower} {
					id := uint64(i + 1)
					s := &sender{life: life, retries: retries{waits: map[uint64]time.Duration{}}, failing: failing}
					s.Node = raft.RestartNode(&raft.Config{
						ID: id, Storage: memory, ElectionTick: 10, HeartbeatTick: 1, MaxSizePerMsg: 1 << 20, MaxInflightMsgs: 256,
						Logger: &raft.DefaultLogger{Logger: log.New(io.Discard, "", 0)},
					})
					s.transport = c.Start(id, s).Transport
					s.loops.Go(func() { s.loop(t, memory) })
					all = append(all, s)
				}
				has := func() bool {
					last, err := follower.LastIndex()
					return err == nil && last >= 10
				}
				time.Sleep(time.Minute)
				require.Len(t, all[0].copies, 6) // after 0, 1, 3, 7, 15 and 31 s
				require.False(t, has())
				if failing {
					end()
				} else {
					time.Sleep(time.Minute)
					require.True(t, has())
					require.Zero(t, all[0].retries.wait(2))
					end()
				}
				for _, s := range all {
					s.loops.Wait()
				}
			})
		})
	}
}
