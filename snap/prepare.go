package snap

import (
	"context"
	"fmt"
	"io"
	"syscall"

	"go.etcd.io/raft/v3/raftpb"
)

// Saver saves databases: it is what package rafthttp calls a Snapshotter.
type Saver interface {
	SaveDBFrom(r io.Reader, id uint64) (int64, error)
}

var _ Saver = (*Store)(nil)

// PrepareDB makes room for the database of size bytes that belongs to the message m of type MsgSnap, before any of it
// comes; below 0, the size is not known, and nothing is done. Where the disk has less room than that, what waits for the
// rest of it gives way, but for an earlier part of this database. If there is too little room even so, or ctx has ended,
// the error says so (syscall.ENOSPC), and nothing has been written to a disk that others need as well. Where the system
// does not tell how much is free, the database may come.
//
// The Saver is always nil: it is the Store itself.
func (s *Store) PrepareDB(ctx context.Context, m *raftpb.Message, size int64) (Saver, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	meta := m.GetSnapshot().GetMetadata()
	same := func(t Transfer) bool { return t.Term == meta.GetTerm() && t.Index == meta.GetIndex() && t.Size == size }
	need := size - s.partOf(same)
	free, err := s.fs.Free(s.dir)
	if err == nil && free < need {
		s.discardIdle(func(t Transfer) bool { return !same(t) })
		free, err = s.fs.Free(s.dir)
	}
	if err == nil && free < need {
		return nil, fmt.Errorf("snap: database %016x needs %d bytes, and %d are free: %w", meta.GetIndex(), need, free, syscall.ENOSPC)
	}
	return nil, context.Cause(ctx)
}

// partOf returns how much is there of a database whose rest is waited for.
func (s *Store) partOf(which func(Transfer) bool) (most int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for t, p := range s.partials {
		if !p.busy && which(t) {
			most = max(most, p.at)
		}
	}
	return most
}
