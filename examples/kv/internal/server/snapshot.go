package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/api"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// snapshots keeps what comes in, counts, and knows what is going out.
type snapshots struct {
	store   *snap.Store
	sending atomic.Int64

	mu      sync.Mutex
	status  api.SnapshotStatus
	waiting map[uint64]struct{} // indexes of databases that were saved, and are not known to be of no use any more
}

// openSnapshots opens the store in dir. What is there is of no use: what was
// installed has left it, and raft has not heard of anything else.
func openSnapshots(dir string) (*snapshots, error) {
	store, err := snap.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := store.RemoveUnclaimed(); err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return &snapshots{store: store, waiting: make(map[uint64]struct{})}, nil
}

// SaveDBFrom, PartialDB and ResumeDBFrom make snapshots the transport's
// Snapshotter, one for transfers that are resumed when they break.
func (s *snapshots) SaveDBFrom(r io.Reader, id uint64) (int64, error) {
	start := time.Now()
	n, err := s.store.SaveDBFrom(r, id)
	s.saved(id, n, start, err)
	return n, err
}

// PartialDB says how much is there of a database whose transfer broke.
func (s *snapshots) PartialDB(t snap.Transfer) (int64, uint32) { return s.store.PartialDB(t) }

// ResumeDBFrom saves the rest of such a database.
func (s *snapshots) ResumeDBFrom(r io.Reader, t snap.Transfer, offset int64, checksum func() (uint32, error)) (int64, error) {
	start := time.Now()
	n, err := s.store.ResumeDBFrom(r, t, offset, checksum)
	s.saved(t.Index, t.Size, start, err)
	return n, err
}

func (s *snapshots) saved(index uint64, size int64, start time.Time, err error) {
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting[index] = struct{}{}
	s.status.Received++
	s.status.LastReceivedBytes, s.status.LastReceivedTime = size, time.Since(start)
}

// PrepareDB refuses a database that has no room on the disk, before it comes.
func (s *snapshots) PrepareDB(ctx context.Context, m *raftpb.Message, size int64) (snap.Saver, error) {
	return s.store.PrepareDB(ctx, m, size)
}

// DiscardDB takes a database back whose message was refused.
func (s *snapshots) DiscardDB(id uint64, cause error) { s.store.DiscardDB(id, cause) }

// removeUnused removes the databases up to an index that is applied: they were
// installed, or raft did not want them, and will not.
func (s *snapshots) removeUnused(applied uint64) error {
	s.mu.Lock()
	before := len(s.waiting)
	maps.DeleteFunc(s.waiting, func(index uint64, _ struct{}) bool { return index <= applied })
	unused := len(s.waiting) < before
	s.mu.Unlock()
	if !unused {
		return nil
	}
	return s.store.RemoveBefore(applied + 1)
}

var (
	_ rafthttp.ResumingSnapshotter   = (*snapshots)(nil)
	_ rafthttp.PreparingSnapshotter  = (*snapshots)(nil)
	_ rafthttp.DiscardingSnapshotter = (*snapshots)(nil)
)

func (s *snapshots) count(change func(*api.SnapshotStatus)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.status)
}

func (s *snapshots) counts() (st api.SnapshotStatus) {
	s.count(func(now *api.SnapshotStatus) { st = *now })
	return st
}

// sendSnapshot sends a copy of the data as it is now to a follower that is too
// far behind for entries. The message raft made announces the data as it was a
// moment ago; what goes out announces exactly the copy.
func (s *Server) sendSnapshot(m *raftpb.Message) {
	to := m.GetTo()
	reader, err := s.storage.Data.OpenSnapshot()
	if err != nil {
		s.log.Error("cannot read data for a snapshot", zap.Error(err))
		s.node.ReportSnapshot(to, raft.SnapshotFailure)
		return
	}
	message := snap.NewMessage(&raftpb.Message{
		Type:     raftpb.MsgSnap.Enum(),
		To:       m.To,
		From:     m.From,
		Term:     m.Term,
		Snapshot: &raftpb.Snapshot{Metadata: reader.Metadata},
	}, reader, reader.Size)
	s.log.Info("sending snapshot", zap.Uint64("to", to),
		zap.Uint64("index", reader.Metadata.GetIndex()), zap.Int64("bytes", reader.Size))

	s.snapshots.sending.Add(1)
	s.transport.SendSnapshot(message)
	// Exactly one value comes, whatever happens. Until then the log must keep
	// the entries that follow the snapshot. The transport reports to raft.
	s.loops.Go(func() {
		sent := <-message.CloseNotify()
		s.snapshots.sending.Add(-1)
		s.snapshots.count(func(st *api.SnapshotStatus) {
			if sent {
				st.Sent++
			} else {
				st.Failed++
			}
		})
	})
}

// installSnapshot replaces the data by that of a snapshot, which the transport
// has saved before raft heard of it.
func (s *Server) installSnapshot(snapshot *raftpb.Snapshot, hs *raftpb.HardState) error {
	index := snapshot.GetMetadata().GetIndex()
	path, err := s.snapshots.store.DBFilePath(index)
	if err != nil {
		return fmt.Errorf("snapshot %d: %w", index, err)
	}
	if err := s.storage.InstallSnapshot(path, snapshot.GetMetadata(), hs); err != nil {
		return err
	}
	s.log.Info("installed snapshot", zap.Uint64("index", index))
	s.noteMembership()
	s.applied.set(index)
	return nil
}

// compactIfLong compacts the log when that is worth it.
func (s *Server) compactIfLong() error {
	first, last, bytes := s.storage.Log.Extent()
	entries := last + 1 - first
	if (entries < s.cfg.KeepEntries || entries-s.cfg.KeepEntries < s.cfg.CompactEntries) &&
		bytes-s.cfg.KeepBytes < s.cfg.CompactBytes {
		return nil
	}
	return s.compact()
}

// compact forgets the entries that the data has made superfluous, but for some.
func (s *Server) compact() error {
	if s.snapshots.sending.Load() > 0 {
		return nil // its receiver will want the entries that follow it
	}
	applied := s.storage.Data.Position().Index
	dropped, err := s.storage.Log.Compact(applied, s.cfg.KeepEntries, s.cfg.KeepBytes)
	if err != nil {
		return fmt.Errorf("compact log: %w", err)
	}
	if dropped > 0 {
		s.log.Info("compacted log", zap.Uint64("applied", applied), zap.Uint64("dropped", dropped))
	}
	return nil
}
