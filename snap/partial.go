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
	// maxPartials bounds the databases that wait for the rest of them.
	maxPartials = 4
	// partialLifetime is how long one waits.
	partialLifetime = 10 * time.Minute
	// maxSaved bounds the databases whose checksum is remembered.
	maxSaved = 8
)

var (
	// ErrChecksum is returned by [Store.ResumeDBFrom] when the database is not what its sender read.
	ErrChecksum = errors.New("snap: checksum of the database differs")
	// ErrOffset is returned by [Store.ResumeDBFrom] when the database has not come as far as the offset says: ask
	// [Store.PartialDB] again.
	ErrOffset = errors.New("snap: the database is not there up to this offset")
)

// Transfer says which database a transfer brings. Two with the same fields bring the same bytes, as far as anyone but a
// checksum can tell.
type Transfer struct {
	From  uint64 // id of the sending member
	Term  uint64 // of the snapshot
	Index uint64 // of the snapshot
	Size  int64  // of the whole database, in bytes
}

// partial is a database of which some is there. Its transfer owns it while busy; the store's mutex guards the rest.
type partial struct {
	*dbFile
	busy   bool
	since  time.Time   // of not being busy
	expiry *time.Timer // nil while busy
}

// saved is a database that ResumeDBFrom has put in its place.
type saved struct {
	Transfer
	sum uint32
}

// PartialDB returns how many bytes of a database are there from earlier calls of [Store.ResumeDBFrom], and their
// CRC-32C: none and 0 if there is nothing, or if a call is still under way; all if the last one has ended well and the
// file is still there. It does not block on I/O but for a stat.
func (s *Store) PartialDB(t Transfer) (offset int64, checksum uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sum, ok := s.savedSum(t); ok {
		return t.Size, sum
	}
	if p := s.partials[t]; p != nil && !p.busy {
		return p.at, p.sum
	}
	return 0, 0
}

// savedSum is called with mu held.
func (s *Store) savedSum(t Transfer) (uint32, bool) {
	for _, done := range s.saved {
		if done.Transfer == t {
			_, err := s.fs.Stat(s.path(t.Index))
			return done.sum, err == nil
		}
	}
	return 0, false
}

// unsave forgets the checksum of a database that was replaced.
func (s *Store) unsave(index uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saved = slices.DeleteFunc(s.saved, func(old saved) bool { return old.Index == index })
}

// ResumeDBFrom saves a database as [Store.SaveDBFrom] does, whose bytes from offset on r brings. It returns the number of
// bytes read from r. The offset is 0, which begins anew, or what [Store.PartialDB] said; it is ErrOffset if that is true
// no more. After the last byte of r, ResumeDBFrom calls checksum for the CRC-32C of the whole database as its sender read
// it, and puts the file into its place only if what arrived has the same.
//
// If r or checksum fails, what has arrived stays for a later call with the same Transfer; after any other error nothing is
// left. At most 4 databases wait so, one of each sender: a sender's newest, and then the oldest, give way. One that waits
// for 10 minutes is removed; Open removes all that a crash has left.
func (s *Store) ResumeDBFrom(r io.Reader, t Transfer, offset int64, checksum func() (uint32, error)) (int64, error) {
	p, err := s.claim(t, offset)
	if err != nil {
		return 0, fmt.Errorf("snap: save database %016x from byte %d: %w", t.Index, offset, err)
	}
	if p == nil {
		return 0, s.compare(t, checksum)
	}
	kept := false
	defer func() {
		if !kept { // r has panicked
			s.forget(t, p)
		}
	}()
	n, err := p.fill(r)
	if err == nil {
		err = s.complete(t, p, checksum)
	}
	if err == nil {
		kept = true
		return n, nil
	}
	kept = s.keep(t, p, err)
	return n, fmt.Errorf("snap: save database %016x: %w", t.Index, err)
}

// claim returns the file that the bytes from offset on belong into. It is nil for a database that is saved already.
func (s *Store) claim(t Transfer, offset int64) (*partial, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.Size < 0 || offset < 0 || offset > t.Size {
		return nil, ErrOffset
	}
	p := s.partials[t]
	if p != nil && p.busy {
		return nil, fmt.Errorf("%w: another transfer of it is under way", ErrOffset)
	}
	if offset > 0 {
		if _, ok := s.savedSum(t); ok && offset == t.Size {
			return nil, nil
		}
		if p == nil || p.at != offset {
			return nil, ErrOffset
		}
		p.claim()
		return p, nil
	}
	s.makeWay(t)
	f, err := s.create(t.Index, t.Size, true)
	if err != nil {
		return nil, err
	}
	p = &partial{dbFile: f, busy: true}
	if s.partials == nil {
		s.partials = make(map[Transfer]*partial)
	}
	s.partials[t] = p
	return p, nil
}

func (p *partial) claim() {
	p.busy = true
	p.expiry.Stop()
	p.expiry = nil
}

// makeWay removes what a new transfer displaces. It is called with mu held.
func (s *Store) makeWay(t Transfer) {
	idle := 0
	for other, p := range s.partials {
		if p.busy {
			continue
		}
		if other.From == t.From {
			s.drop(other, p)
			continue
		}
		idle++
	}
	for ; idle >= maxPartials; idle-- {
		s.dropOldest()
	}
}

// dropOldest is called with mu held.
func (s *Store) dropOldest() {
	var oldest Transfer
	var found *partial
	for t, p := range s.partials {
		if !p.busy && (found == nil || p.since.Before(found.since)) {
			oldest, found = t, p
		}
	}
	if found != nil {
		s.drop(oldest, found)
	}
}

// drop is called with mu held.
func (s *Store) drop(t Transfer, p *partial) {
	if p.expiry != nil {
		p.expiry.Stop()
	}
	if s.partials[t] == p {
		delete(s.partials, t)
	}
	s.discard(p.dbFile)
}

func (s *Store) forget(t Transfer, p *partial) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(t, p)
}

// keep keeps what has arrived, unless err says that it is of no use. It reports true in any case: p is dealt with.
func (s *Store) keep(t Transfer, p *partial, err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	useless := p.failed != nil || errors.Is(err, ErrWrongSize) || errors.Is(err, ErrChecksum)
	if useless || p.at == 0 {
		s.drop(t, p)
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			s.dropIdle()
		}
		return true
	}
	p.busy, p.since = false, time.Now()
	p.expiry = time.AfterFunc(partialLifetime, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.partials[t] == p && !p.busy {
			s.drop(t, p)
		}
	})
	for s.idle() > maxPartials {
		s.dropOldest()
	}
	return true
}

// idle is called with mu held.
func (s *Store) idle() (n int) {
	for _, p := range s.partials {
		if !p.busy {
			n++
		}
	}
	return n
}

// dropIdle frees the disk of what only waits. It is called with mu held.
func (s *Store) dropIdle() {
	for t, p := range s.partials {
		if !p.busy {
			s.drop(t, p)
		}
	}
}

// complete puts a database into its place that has arrived, if it is what was sent.
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
	placed, err := s.place(p.Name(), t.Index)
	if err != nil {
		p.failed = err
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.partials, t)
	if !placed {
		s.discard(p.dbFile)
	}
	s.saved = slices.DeleteFunc(s.saved, func(old saved) bool { return old.Transfer == t })
	if len(s.saved) == maxSaved {
		s.saved = slices.Delete(s.saved, 0, 1)
	}
	s.saved = append(s.saved, saved{t, p.sum})
	return nil
}

// compare says whether a database that is saved is the one that was sent.
func (s *Store) compare(t Transfer, checksum func() (uint32, error)) error {
	want, err := checksum()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if sum, ok := s.savedSum(t); !ok {
		return ErrOffset
	} else if sum != want {
		return fmt.Errorf("%w: %08x is saved, %08x was sent", ErrChecksum, sum, want)
	}
	return nil
}
