package callback

import (
	"context"
	"io"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// Store calls the application's Snapshotter, guarded.
type Store struct {
	saver snap.Saver
	guard Guard
	wait  time.Duration // for PrepareDB
}

// NewStore returns the store of a Snapshotter, nil if that is nil. PrepareDB may block for up to wait.
func NewStore(s snap.Saver, g Guard, wait time.Duration) *Store {
	if s == nil {
		return nil
	}
	return &Store{saver: s, guard: g, wait: wait}
}

// resumer is a rafthttp.ResumingSnapshotter, preparer a PreparingSnapshotter, and discarder a DiscardingSnapshotter.
type resumer interface {
	snap.Saver
	PartialDB(t snap.Transfer) (offset int64, checksum uint32)
	ResumeDBFrom(r io.Reader, t snap.Transfer, offset int64, checksum func() (uint32, error)) (int64, error)
}

type preparer interface {
	PrepareDB(ctx context.Context, m *raftpb.Message, size int64) (snap.Saver, error)
}

type discarder interface {
	DiscardDB(id uint64, cause error)
}

// Resumes reports whether the Snapshotter resumes databases. The Store may be nil.
func (s *Store) Resumes() bool {
	if s == nil {
		return false
	}
	_, ok := s.saver.(resumer)
	return ok
}

// PartialDB returns a function that asks how much of a database from a member is present. The Snapshotter resumes databases.
func (s *Store) PartialDB(from types.ID) func(snap.Transfer) (int64, uint32) {
	return func(t snap.Transfer) (int64, uint32) {
		defer s.guard.End(s.guard.Begin(Call{Name: "Snapshotter.PartialDB", Peer: from}))
		return s.saver.(resumer).PartialDB(t)
	}
}

// Saving is how one database from a member is saved.
type Saving struct {
	store *Store
	from  types.ID
	saver snap.Saver // once known
}

// Begin returns how a database from a member is saved.
func (s *Store) Begin(from types.ID) *Saving { return &Saving{store: s, from: from} }

// Saver asks which Saver saves the database of m, which came by this lane.
func (v *Saving) Saver(ctx context.Context, lane string, m *raftpb.Message, size int64) (snap.Saver, error) {
	s := v.store
	c := Call{Name: "Snapshotter.PrepareDB", Peer: v.from, Lane: lane, Type: m.GetType(), From: m.GetFrom()}
	defer s.guard.End(s.guard.Begin(c))
	v.saver = s.saver
	if p, ok := s.saver.(preparer); ok {
		ctx, cancel := context.WithTimeoutCause(ctx, s.wait, errs.ErrStalled)
		defer cancel()
		saver, err := p.PrepareDB(ctx, m, size)
		if err != nil {
			return nil, err
		}
		if saver != nil && !IsNil(saver) {
			v.saver = saver
		}
	}
	if r, ok := v.saver.(resumer); ok {
		return guardedResumer{guardedSaver{r, s.guard, c}, r}, nil
	}
	return guardedSaver{v.saver, s.guard, c}, nil
}

// Discard tells the Saver that the database it has saved is not used, and why.
func (v *Saving) Discard(index uint64, cause error) {
	if d, ok := v.saver.(discarder); ok {
		defer v.store.guard.End(v.store.guard.Begin(Call{Name: "Snapshotter.DiscardDB", Peer: v.from}))
		d.DiscardDB(index, cause)
	}
}

// guardedSaver is a Saver under guard.
type guardedSaver struct {
	saver snap.Saver
	guard Guard
	in    Call
}

// SaveDBFrom implements snap.Saver.
func (s guardedSaver) SaveDBFrom(r io.Reader, id uint64) (int64, error) {
	s.in.Name = "Snapshotter.SaveDBFrom"
	defer s.guard.End(s.guard.Begin(s.in))
	return s.saver.SaveDBFrom(r, id)
}

// guardedResumer is a resumer under guard.
type guardedResumer struct {
	guardedSaver
	s resumer
}

// ResumeDBFrom implements snapshot.Resumer.
func (s guardedResumer) ResumeDBFrom(r io.Reader, t snap.Transfer, offset int64, sum func() (uint32, error)) (int64, error) {
	s.in.Name = "Snapshotter.ResumeDBFrom"
	defer s.guard.End(s.guard.Begin(s.in))
	return s.s.ResumeDBFrom(r, t, offset, sum)
}
