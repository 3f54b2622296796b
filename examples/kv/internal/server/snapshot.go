package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
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
	store  *snap.Store
	copies string // the folder of copies of the data that are being sent

	mu      sync.Mutex
	status  api.SnapshotStatus
	waiting map[uint64]struct{}      // indexes of databases that were saved, and are not known to be of no use any more
	sending int                      // snapshots that go out
	kept    map[uint64]uint64        // by receiver, an index that its newest snapshot has at least, until it is installed
	waits   map[uint64]time.Duration // by receiver whose last snapshot failed, how long to wait before the next
}

// openSnapshots opens the store in a folder of dir, and so takes dir for this
// process. What is there is of no use: what was installed has left it, and raft
// has not heard of anything else. So are the copies that an earlier life sent.
func openSnapshots(dir string) (*snapshots, error) {
	store, err := snap.Open(filepath.Join(dir, "snap"))
	if err != nil {
		return nil, err
	}
	copies := filepath.Join(dir, "sending")
	err = errors.Join(store.RemoveUnclaimed(), os.RemoveAll(copies), os.Mkdir(copies, 0o700))
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return &snapshots{
		store:   store,
		copies:  copies,
		waiting: make(map[uint64]struct{}),
		kept:    make(map[uint64]uint64),
		waits:   make(map[uint64]time.Duration),
	}, nil
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
// installed, or raft did not want them, and will not. Those that it cannot remove
// are left for the next time.
func (s *snapshots) removeUnused(applied uint64) error {
	var unused []uint64
	s.mu.Lock()
	for index := range s.waiting {
		if index <= applied {
			unused = append(unused, index)
			delete(s.waiting, index)
		}
	}
	s.mu.Unlock()
	if len(unused) == 0 {
		return nil
	}
	err := s.store.RemoveBefore(applied + 1)
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, index := range unused {
			s.waiting[index] = struct{}{}
		}
	}
	return err
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

// maxSending is how many snapshots are sent at a time, hence how many copies of
// the data there are: as many as the transport sends.
const maxSending = 4

const (
	firstRetry        = time.Second            // how long to wait after a snapshot that failed; twice as long after the next
	lastRetry         = time.Minute            // at most
	installedInterval = 100 * time.Millisecond // between looks at whether a snapshot is installed
)

// wait is how long to wait before the next snapshot for a member.
func (s *snapshots) wait(to uint64) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waits[to]
}

// begin notes that a snapshot of this index or a later one is sent to a member; ok
// says whether there is room for one more. From now on the entries behind it are
// kept.
func (s *snapshots) begin(to, index uint64) (ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ok = s.sending < maxSending; ok {
		s.sending++
		s.kept[to] = index
	}
	return ok
}

func (s *snapshots) end(to uint64, sent bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sending--
	if sent {
		s.status.Sent++
		delete(s.waits, to)
	} else {
		s.status.Failed++
		s.waits[to] = min(max(2*s.waits[to], firstRetry), lastRetry)
	}
}

// keeps says whether the entries behind a snapshot are still kept for a member.
func (s *snapshots) keeps(to, index uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept, ok := s.kept[to]
	return ok && kept == index
}

// release ends that, unless a newer snapshot is sent to the member.
func (s *snapshots) release(to, index uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept[to] == index {
		delete(s.kept, to)
	}
}

// releaseAll ends it for all.
func (s *snapshots) releaseAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.kept)
}

// oldest is the lowest index behind which entries are kept, or else the given one.
func (s *snapshots) oldest(index uint64) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, kept := range s.kept {
		index = min(index, kept)
	}
	return index
}

// sendSnapshot sends the data as it is now to a follower that is too far behind
// for entries. It does not wait, neither for the follower nor for the disk.
//
// Raft asks for the next snapshot as soon as it hears that one failed. Each costs a
// copy of the data, and the cause, such as a full disk, may last; so the next one
// begins after a while, which is longer each time. Raft asks for no other one
// meanwhile, since it has no report.
func (s *Server) sendSnapshot(m *raftpb.Message) {
	s.loops.Go(func() {
		to := m.GetTo()
		select {
		case <-time.After(s.snapshots.wait(to)):
		case <-s.life.Done():
			return
		}
		if s.node.Status().GetTerm() != m.GetTerm() {
			return // nobody leads in that term any more
		}
		applied := s.storage.Data.Position().Index
		if !s.snapshots.begin(to, applied) {
			s.node.ReportSnapshot(to, raft.SnapshotFailure) // raft tries again
			return
		}
		sent, err := s.sendCopy(m)
		s.snapshots.end(to, sent)
		if sent {
			s.awaitInstalled(to, applied)
		}
		s.snapshots.release(to, applied)
		if err != nil && s.life.Err() == nil {
			s.log.Error("cannot send a snapshot", zap.Uint64("to", to), zap.Error(err))
			s.node.ReportSnapshot(to, raft.SnapshotFailure)
		}
	})
}

// awaitInstalled returns when a member has acknowledged what a snapshot has that
// was delivered to it, which it does once that is installed; or when that is no
// concern of this one any more.
func (s *Server) awaitInstalled(to, index uint64) {
	ticker := time.NewTicker(installedInterval)
	defer ticker.Stop()
	for s.snapshots.keeps(to, index) {
		progress, ok := s.node.Status().Progress[to] // a leader has that of all members
		if !ok || progress.Match >= index {
			return
		}
		select {
		case <-ticker.C:
		case <-s.life.Done():
			return
		}
	}
}

// sendCopy sends a copy of the data: a slow follower would hold up writes to the
// data itself. The message raft made announces the data as it was a moment ago;
// what goes out announces exactly the copy. After an error, nobody has told raft.
func (s *Server) sendCopy(m *raftpb.Message) (sent bool, err error) {
	data, err := s.storage.Data.Copy(s.life, s.snapshots.copies)
	if err != nil {
		return false, err
	}
	reader := snap.NewFileReader(data.File, func() { _ = os.Remove(data.File.Name()) })
	message := snap.NewMessage(&raftpb.Message{
		Type:     raftpb.MsgSnap.Enum(),
		To:       m.To,
		From:     m.From,
		Term:     m.Term,
		Snapshot: &raftpb.Snapshot{Metadata: data.Metadata},
	}, reader, data.Size)
	s.log.Info("sending snapshot", zap.Uint64("to", m.GetTo()),
		zap.Uint64("index", data.Metadata.GetIndex()), zap.Int64("bytes", data.Size))
	s.transport.SendSnapshot(message)
	// Exactly one value comes, whatever happens; the transport reports to raft.
	return <-message.CloseNotify(), nil
}

// installSnapshot replaces the data by that of a snapshot, which the transport
// has saved before raft heard of it.
func (s *Server) installSnapshot(snapshot *raftpb.Snapshot, hs *raftpb.HardState) error {
	defer s.took("install", time.Now())
	s.state.Lock() // no entry is applied meanwhile
	defer s.state.Unlock()
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

// compactIfLong compacts the log when that is worth it. The caller holds state.
func (s *Server) compactIfLong() error {
	if !s.logHasGrown(1) {
		return nil
	}
	return s.compact()
}

// logHasGrown says whether the log has grown by so many times what makes a
// compaction worth it.
func (s *Server) logHasGrown(times uint64) bool {
	first, last, bytes := s.storage.Log.Extent()
	entries := last + 1 - first
	return entries >= s.cfg.KeepEntries && (entries-s.cfg.KeepEntries)/times >= s.cfg.CompactEntries ||
		(bytes-s.cfg.KeepBytes)/int64(times) >= s.cfg.CompactBytes
}

// patientGrowth is by how much the log may grow for the receivers of snapshots,
// in times of what makes a compaction worth it. One that takes longer, until it
// has installed its snapshot, will need another one.
const patientGrowth = 4

// compact forgets the entries that are superfluous, except some. The caller holds
// state.
func (s *Server) compact() error {
	if s.logHasGrown(patientGrowth) {
		s.snapshots.releaseAll()
	}
	applied := s.snapshots.oldest(s.superfluous) // its receiver will want the entries that follow it
	dropped, err := s.storage.Log.Compact(applied, s.cfg.KeepEntries, s.cfg.KeepBytes)
	if err != nil {
		return fmt.Errorf("compact log: %w", err)
	}
	if dropped > 0 {
		s.log.Info("compacted log", zap.Uint64("up to", applied), zap.Uint64("dropped", dropped))
	}
	return nil
}
