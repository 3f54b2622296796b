package snap

import (
	"context"
	"fmt"
	"io"
	"syscall"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/faultpoint"
)

// Saver saves databases: package rafthttp calls it a Snapshotter.
type Saver interface {
	SaveDBFrom(r io.Reader, id uint64) (int64, error)
}

var _ Saver = (*Store)(nil)

// PrepareDB makes room for the database of size bytes that belongs to the message m of type MsgSnap, before any of it
// arrives; below 0, the size is unknown, and nothing is done. If the disk has less room, incomplete databases
// that wait for the rest are removed, if that is enough. If it is not, or ctx has ended, the error says so
// (syscall.ENOSPC), and nothing has been written to a disk that others need as well. An earlier part of this database from
// the same sender counts as room, and a database that is already saved needs none. If the system does not tell how much is
// free, the database is accepted.
//
// The Saver is always nil: it is the Store itself.
func (s *Store) PrepareDB(ctx context.Context, m *raftpb.Message, size int64) (Saver, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	meta := m.GetSnapshot().GetMetadata()
	t := Transfer{From: m.GetFrom(), Term: meta.GetTerm(), Index: meta.GetIndex(), Size: size}
	if _, saved := s.savedSum(t); !saved {
		if err := s.makeRoom(t); err != nil {
			return nil, err
		}
	}
	return nil, context.Cause(ctx)
}

// makeRoom returns an error if the rest of t does not fit on the disk.
func (s *Store) makeRoom(t Transfer) error {
	part, others := s.idleRoom(t)
	need := t.Size - part
	free, err := s.fs.Free(s.dir)
	if err == nil && free < need && need-free <= others {
		s.discardIdle(func(other Transfer) bool { return other != t })
		free, err = s.fs.Free(s.dir)
	}
	if faultpoint.Fails(faultpoint.DiskReservation) {
		free = min(free, need-1)
	}
	if err == nil && free < need {
		return fmt.Errorf("snap: database %016x needs %d bytes, and %d are free in %s: %w", t.Index, need, free, s.dir, syscall.ENOSPC)
	}
	return nil // or the free space is unknown
}

// idleRoom returns the disk space of the waiting part of t, and of all other waiting parts together.
func (s *Store) idleRoom(t Transfer) (part, others int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for other, p := range s.partials {
		switch {
		case p.busy:
		case other == t:
			part = p.room()
		default:
			others += p.room()
		}
	}
	return part, others
}
