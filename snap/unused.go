package snap

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
)

// maxCounted bounds the databases whose uses are counted. One that is not counted stays until RemoveBefore, or until
// RemoveUnclaimed after the next Open.
const maxCounted = 256

// RemoveUnclaimed removes the databases that were there when the Store was opened, but for those of the snapshots with
// these indexes. A server calls it once, after Open and before its transport runs, with what it still needs of an
// earlier life: the snapshot that its log announces last, if that was not installed yet, or none. What else is there
// came before a crash and was never heard of, or was not wanted, and would stay for good.
//
// Databases that were saved since Open are left alone. It goes on after an error, and returns all of them joined. As with
// RemoveBefore, removal is not synced: what is back after a crash is there for the next call.
func (s *Store) RemoveUnclaimed(claimed ...uint64) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	s.placing.Lock()
	defer s.placing.Unlock()
	s.mu.Lock()
	found := slices.Sorted(maps.Keys(s.found))
	s.mu.Unlock()
	var errs []error
	for _, id := range found {
		if slices.Contains(claimed, id) {
			continue
		}
		if err := s.fs.Remove(s.path(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
			continue
		}
		s.mu.Lock()
		delete(s.found, id)
		s.mu.Unlock()
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("snap: remove databases that nobody claims: %w", err)
	}
	return nil
}

// DiscardDB says that the database which a call of [Store.SaveDBFrom] or [Store.ResumeDBFrom] saved for the snapshot with
// index id will not be used; cause says why. It is called at most once for each such call. The database is removed, unless
// another call, or an earlier life of the server, saved one of that index too: whoever was told of that may need it. The
// transport calls it where the message of a snapshot is not processed.
func (s *Store) DiscardDB(id uint64, _ error) {
	if s.enter() != nil {
		return
	}
	defer s.leave()
	s.placing.Lock()
	defer s.placing.Unlock()
	if s.uncountUse(id) {
		_ = s.fs.Remove(s.path(id)) // or nobody claims it after the next Open
	}
}

// uncountUse reports whether that was the last.
func (s *Store) uncountUse(id uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch uses := s.uses[id]; uses {
	case 0: // not counted
		return false
	case 1:
		delete(s.uses, id)
		return true
	default:
		s.uses[id] = uses - 1
		return false
	}
}

// countUse counts a database that was saved, in the place of another one or not. It is called with placing held.
func (s *Store) countUse(id uint64, replaces bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.found, id)
	uses := 1
	if replaces {
		uses += max(s.uses[id], 1)
	}
	if s.uses == nil {
		s.uses = make(map[uint64]int)
	}
	s.uses[id] = uses
	if len(s.uses) > maxCounted {
		delete(s.uses, slices.Min(slices.Collect(maps.Keys(s.uses))))
	}
}

// findAll finds the databases that are there when the Store is opened.
func (s *Store) findAll() error {
	entries, err := s.fs.ReadDir(s.dir)
	if err != nil {
		return err
	}
	s.found = make(map[uint64]struct{})
	for _, e := range entries {
		if id, ok := indexOf(e.Name()); ok {
			s.found[id] = struct{}{}
		}
	}
	return nil
}

// indexOf returns the index of the snapshot whose database has this name.
func indexOf(name string) (id uint64, ok bool) {
	match := nameRE.FindStringSubmatch(name)
	if match == nil {
		return 0, false
	}
	id, err := strconv.ParseUint(match[1], 16, 64)
	return id, err == nil
}
