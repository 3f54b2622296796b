package snap

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"syscall"
	"time"
)

const (
	// maxPartials limits the incomplete databases that wait for the rest.
	maxPartials = 4
	// partialLifetime is how long one waits.
	partialLifetime = 10 * time.Minute
	// maxSaved limits the databases whose checksum is remembered.
	maxSaved = 8
)

var (
	// ErrChecksum is returned by [Store.ResumeDBFrom] when the database is not the one that its sender read.
	ErrChecksum = errors.New("snap: checksum of the database differs")
	// ErrOffset is returned by [Store.ResumeDBFrom] when fewer bytes are present than the offset says: ask
	// [Store.PartialDB] again.
	ErrOffset = errors.New("snap: the database is not there up to this offset")
)

// Transfer identifies the database of a transfer. Two with the same fields have the same bytes, unless a
// checksum shows a difference.
type Transfer struct {
	From  uint64 // id of the sending member
	Term  uint64 // of the snapshot
	Index uint64 // of the snapshot
	Size  int64  // of the complete database, in bytes
}

// partial is an incomplete database. Its transfer owns it while busy; the store's mutex guards the rest.
type partial struct {
	*dbFile // nil while being created
	busy    bool
	since   time.Time   // when it stopped being busy
	expiry  *time.Timer // nil while busy
}

// saved is a database that ResumeDBFrom has put in place.
type saved struct {
	Transfer
	sum      uint32
	modified time.Time // of its file
}

// PartialDB returns how many bytes of a database are present from earlier calls of [Store.ResumeDBFrom], and their
// CRC-32C: 0 and 0 if none, or if a call is still in progress; all bytes if the last call succeeded and its
// file is still present, unchanged. Its only I/O is a stat in that last case, and it waits for no other call.
func (s *Store) PartialDB(t Transfer) (offset int64, checksum uint32) {
	s.mu.Lock()
	if p := s.partials[t]; p != nil && !p.busy {
		offset, checksum = p.at, p.sum
	}
	s.mu.Unlock()
	if sum, ok := s.savedSum(t); ok {
		return t.Size, sum
	}
	return offset, checksum
}

// savedSum returns the checksum of a database that is present, as it was saved.
func (s *Store) savedSum(t Transfer) (uint32, bool) {
	s.mu.Lock()
	var done saved
	if i := slices.IndexFunc(s.saved, func(done saved) bool { return done.Transfer == t }); i >= 0 {
		done = s.saved[i]
	}
	s.mu.Unlock()
	if done.Transfer != t {
		return 0, false
	}
	info, err := s.fs.Stat(s.path(t.Index))
	return done.sum, err == nil && info != nil && info.Size() == t.Size && info.ModTime().Equal(done.modified)
}

// unsave forgets the checksum of a database that was replaced.
func (s *Store) unsave(index uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saved = slices.DeleteFunc(s.saved, func(old saved) bool { return old.Index == index })
}

// ResumeDBFrom saves a database like [Store.SaveDBFrom]; r delivers its bytes from offset on. It returns the number of
// bytes read from r. The offset is 0, which starts again, or the result of [Store.PartialDB]; the error is ErrOffset if
// that is outdated. After the last byte of r, ResumeDBFrom calls checksum for the CRC-32C of the complete database as
// its sender read it, and puts the file in place only if the checksum of the bytes that arrived is the same.
//
// If r or checksum fails, the bytes that arrived are kept for a later call with the same Transfer; after any other
// error nothing is kept. At most 4 incomplete databases wait, one per sender: the sender's older one, and then the
// oldest, is removed, and all of them when the disk is full. One that waits for 10 minutes is removed; Open removes all
// that a crash has left.
func (s *Store) ResumeDBFrom(r io.Reader, t Transfer, offset int64, checksum func() (uint32, error)) (n int64, err error) {
	if err := s.enter(); err != nil {
		return 0, err
	}
	defer s.leave()
	defer func() { s.freeIfFull(err) }()
	p, err := s.acquire(t, offset)
	if err != nil {
		return 0, fmt.Errorf("snap: save database %016x from byte %d: %w", t.Index, offset, err)
	}
	if p == nil {
		return 0, s.compare(t, checksum)
	}
	kept := false
	defer func() {
		if !kept { // r panicked
			s.drop(t, p)
		}
	}()
	n, err = p.fill(r)
	if err == nil {
		err = s.complete(t, p, checksum)
	}
	kept = true
	if err != nil {
		s.release(t, p, err)
		return n, fmt.Errorf("snap: save database %016x: %w", t.Index, err)
	}
	return n, nil
}

// acquire returns the file for the bytes from offset on. It is nil for a database that is saved already.
func (s *Store) acquire(t Transfer, offset int64) (*partial, error) {
	if t.Size < 0 || offset < 0 || offset > t.Size {
		return nil, ErrOffset
	}
	if offset == 0 {
		return s.begin(t)
	}
	if _, ok := s.savedSum(t); ok && offset == t.Size {
		return nil, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.partials[t]
	switch {
	case p == nil:
		return nil, ErrOffset
	case p.busy:
		return nil, errTransferBusy
	case p.at != offset:
		return nil, ErrOffset
	}
	p.busy = true
	p.expiry.Stop()
	p.expiry = nil
	return p, nil
}

var errTransferBusy = fmt.Errorf("%w: another transfer of it is under way", ErrOffset)

// begin creates a file for a database.
func (s *Store) begin(t Transfer) (*partial, error) {
	s.mu.Lock()
	if p := s.partials[t]; p != nil && p.busy {
		s.mu.Unlock()
		return nil, errTransferBusy
	}
	evicted := s.evictIdle(func(other Transfer) bool { return other.From == t.From })
	evicted = append(evicted, s.evictOldest(maxPartials-1)...)
	p := &partial{busy: true}
	if s.partials == nil {
		s.partials = make(map[Transfer]*partial)
	}
	s.partials[t] = p
	s.mu.Unlock()
	s.discard(evicted...)
	f, err := s.create(t.Index, t.Size, true)
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.partials, t)
		return nil, err
	}
	p.dbFile = f
	return p, nil
}

// release keeps the bytes that arrived, unless err makes them useless.
func (s *Store) release(t Transfer, p *partial, err error) {
	if p.at == 0 || p.failed != nil || errors.Is(err, ErrWrongSize) || errors.Is(err, ErrChecksum) {
		s.drop(t, p)
		return
	}
	s.mu.Lock()
	p.busy, p.since = false, time.Now()
	p.expiry = time.AfterFunc(partialLifetime, func() { s.expire(t, p) })
	left := maxPartials
	if s.closed {
		left = 0
	}
	evicted := s.evictIdle(func(other Transfer) bool { return other.From == t.From && other != t })
	evicted = append(evicted, s.evictOldest(left)...)
	s.mu.Unlock()
	s.discard(evicted...)
}

// drop removes the bytes of a transfer.
func (s *Store) drop(t Transfer, p *partial) {
	s.mu.Lock()
	delete(s.partials, t)
	s.mu.Unlock()
	s.discard(p.dbFile)
}

// expire removes a database that has waited for too long.
func (s *Store) expire(t Transfer, p *partial) {
	if s.enter() != nil {
		return
	}
	defer s.leave()
	s.discardIdle(func(other Transfer) bool {
		return other == t && s.partials[t] == p && time.Since(p.since) >= partialLifetime
	})
}

// freeIfFull removes incomplete databases that wait, if err says that the disk is full.
func (s *Store) freeIfFull(err error) {
	if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) {
		return
	}
	s.discardIdle(func(Transfer) bool { return true })
}

// discardIdle removes the incomplete databases selected by which.
func (s *Store) discardIdle(which func(Transfer) bool) {
	s.mu.Lock()
	idle := s.evictIdle(which)
	s.mu.Unlock()
	s.discard(idle...)
}

// evictIdle takes out the incomplete databases selected by which: the caller discards them without the lock. It is
// called with mu held, as is which.
func (s *Store) evictIdle(which func(Transfer) bool) (taken []*dbFile) {
	for t, p := range s.partials {
		if !p.busy && which(t) {
			p.expiry.Stop()
			delete(s.partials, t)
			taken = append(taken, p.dbFile)
		}
	}
	return taken
}

// evictOldest is evictIdle for the oldest, leaving at most n. It is called with mu held.
func (s *Store) evictOldest(n int) []*dbFile {
	idle := []Transfer{}
	for t, p := range s.partials {
		if !p.busy {
			idle = append(idle, t)
		}
	}
	slices.SortFunc(idle, func(a, b Transfer) int { return s.partials[a].since.Compare(s.partials[b].since) })
	oldest := idle[:max(0, len(idle)-n)]
	return s.evictIdle(func(t Transfer) bool { return slices.Contains(oldest, t) })
}

// complete puts a complete database in place, if it is the one that was sent.
func (s *Store) complete(t Transfer, p *partial, checksum func() (uint32, error)) error {
	if p.at < t.Size {
		return fmt.Errorf("%w: %d of %d bytes", io.ErrUnexpectedEOF, p.at, t.Size)
	}
	want, err := checksum()
	if err != nil {
		return err
	}
	if want != p.sum {
		return fmt.Errorf("%w: %08x arrived, %08x was sent", ErrChecksum, p.sum, want)
	}
	if err := p.finish(); err != nil {
		p.failed = err
		return err
	}
	info, err := s.fs.Stat(p.Name())
	if err != nil {
		p.failed = err
		return err
	}
	placed, err := s.place(p.Name(), t.Index)
	if err != nil {
		p.failed = err
		return err
	}
	if !placed {
		s.discard(p.dbFile)
	}
	s.remember(saved{t, p.sum, info.ModTime()})
	return nil
}

// remember ends the transfer of a database that is in place.
func (s *Store) remember(done saved) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.partials, done.Transfer)
	s.saved = slices.DeleteFunc(s.saved, func(old saved) bool { return old.Transfer == done.Transfer })
	if len(s.saved) == maxSaved {
		s.saved = slices.Delete(s.saved, 0, 1)
	}
	s.saved = append(s.saved, done)
}

// compare reports as an error that a saved database is not the one that was sent.
func (s *Store) compare(t Transfer, checksum func() (uint32, error)) error {
	want, err := checksum()
	if err != nil {
		return err
	}
	s.placing.Lock()
	defer s.placing.Unlock()
	if sum, ok := s.savedSum(t); !ok {
		return ErrOffset
	} else if sum != want {
		return fmt.Errorf("%w: %08x is saved, %08x was sent", ErrChecksum, sum, want)
	}
	s.countUse(t.Index, true)
	return nil
}
