package snap

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
)

// maxCounted limits the databases whose uses are counted. One that is not counted stays until RemoveBefore, or until
// RemoveUnclaimed after the next Open.
const maxCounted = 256

// RemoveUnclaimed removes the databases that were present when the Store was opened, except those of the snapshots with
// these indexes. A server calls it once, after Open and before its transport runs, with the databases from its previous
// run that it still needs: the snapshot that its log announces last, if that was not installed yet, or none. The others
// arrived before a crash and were never reported, or were not wanted, and would stay forever.
//
// Databases saved since Open are left alone. It continues after an error, and returns all errors joined. As with
// RemoveBefore, removal is not synced: the next call removes databases that reappear after a crash.
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

// DiscardDB reports that the database which a call of [Store.SaveDBFrom] or [Store.ResumeDBFrom] saved for the snapshot
// with index id will not be used; cause says why. It is called at most once for each such call. The database is
// removed, unless another call, or a previous run of the server, saved one of that index too: its message may need it.
// The transport calls it when the message of a snapshot is not processed.
func (s *Store) DiscardDB(id uint64, _ error) {
	if s.enter() != nil {
		return
	}
	defer s.leave()
	s.placing.Lock()
	defer s.placing.Unlock()
	if s.uncountUse(id) {
		_ = s.fs.Remove(s.path(id)) // or it stays unclaimed after the next Open
	}
}

// uncountUse reports whether that was the last use.
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

// countUse counts a saved database, whether it replaces another or not. It is called with placing held.
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

// findAll finds the databases that are present when the Store is opened.
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
