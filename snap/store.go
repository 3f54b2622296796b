package snap

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
)

// ErrNoDBSnapshot is returned by [Store.DBFilePath] when there is no database for the index.
var ErrNoDBSnapshot = errors.New("snap: no database snapshot for this index")

// ErrWrongSize is returned by [Store.SaveDBFrom] when the database is shorter or longer than its reader declared.
var ErrWrongSize = errors.New("snap: database is not as long as declared")

const (
	nameFormat  = "%016x.snap.db"
	tempPattern = nameFormat + ".*.tmp" // for os.CreateTemp
)

var (
	nameRE = regexp.MustCompile(`^([0-9a-f]{16})\.snap\.db$`)
	tempRE = regexp.MustCompile(`^[0-9a-f]{16}\.snap\.db\.[0-9]+\.tmp$`)
)

// Store keeps incoming database snapshots as files of a directory, each named by the index of its snapshot, as etcd
// names them: %016x.snap.db. A file with that name is complete and durable. It is never written to, but may be replaced
// by another file of the same index. Other files in the directory are left alone. All methods may be called
// concurrently. A directory belongs to one Store at a time: close it when the transport has stopped.
type Store struct {
	dir string
	fs  filesystem

	lock io.Closer // of dir

	placing sync.Mutex // makes putting a file in place, and removing it again, one step

	mu       sync.Mutex // guards the following, and is not held during I/O
	closed   bool
	calls    int           // in progress
	ended    chan struct{} // closed when the last call ends after Close
	partials map[Transfer]*partial
	saved    []saved             // newest last
	found    map[uint64]struct{} // databases present at Open that still exist
	uses     map[uint64]int      // calls that saved a database and were not undone; one for any database from before
}

// Open returns the store in dir. It creates dir, readable by this user only, if it is missing, removes incomplete files
// left by a crash, and syncs the directory, so that all databases in it are durable. The error is [ErrInUse], and names
// the directory, if another Store has it.
func Open(dir string) (*Store, error) { return open(dir, osFilesystem{}) }

func open(dir string, fsys filesystem) (*Store, error) {
	if err := makeDir(fsys, dir); err != nil {
		return nil, fmt.Errorf("snap: create directory: %w", err)
	}
	lock, err := fsys.Lock(dir)
	if err != nil {
		return nil, fmt.Errorf("snap: lock directory %s: %w", dir, err)
	}
	s := &Store{dir: dir, fs: fsys, lock: lock}
	if err := s.recover(); err != nil {
		_ = lock.Close()
		return nil, err
	}
	return s, nil
}

// recover makes files left by a crash durable or removes them.
func (s *Store) recover() error {
	err := s.removeMatching(func(name string) bool { return tempRE.MatchString(name) })
	if err != nil {
		return fmt.Errorf("snap: remove leftovers: %w", err)
	}
	if err := s.findAll(); err != nil {
		return fmt.Errorf("snap: find databases: %w", err)
	}
	if err := s.fs.SyncDir(s.dir); err != nil {
		return fmt.Errorf("snap: sync directory: %w", err)
	}
	return nil
}

// Close releases the directory, for another Store to open. It waits for calls in progress, so stop the transport first,
// and removes incomplete databases. Saved ones stay. Later calls of methods fail with [os.ErrClosed], or find
// nothing, except DBFilePath. Closing twice is harmless.
//
// A Store that is never closed holds the directory until the process ends or the Store is collected as garbage.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed, s.saved, s.ended = true, nil, make(chan struct{})
	if s.calls == 0 {
		close(s.ended)
	}
	idle := s.evictIdle(func(Transfer) bool { return true })
	s.mu.Unlock()
	s.discard(idle...)
	<-s.ended
	return s.lock.Close()
}

// enter begins a call that Close waits for, unless the Store is closed.
func (s *Store) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("snap: store in %s: %w", s.dir, os.ErrClosed)
	}
	s.calls++
	return nil
}

func (s *Store) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls--; s.closed && s.calls == 0 {
		close(s.ended)
	}
}

// makeDir creates dir and the missing directories above it, each after the name of the one above is durable.
func makeDir(fsys filesystem, dir string) error {
	parent := filepath.Dir(dir)
	switch _, err := fsys.Stat(dir); {
	case err == nil:
		// An interrupted Open may have created it without syncing its name.
		if err := fsys.SyncDir(parent); !isForeign(err) {
			return err
		}
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := makeDir(fsys, parent); err != nil {
		return err
	}
	if err := fsys.Mkdir(dir); err != nil {
		return err
	}
	return fsys.SyncDir(parent)
}

// isForeign reports whether err says that Open cannot have created a subdirectory there, so that its names are durable:
// it is unreadable, or its file system is read-only or does not sync directories.
func isForeign(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) ||
		errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported)
}

// SaveDBFrom reads r to its end, and keeps the data as the database of the snapshot with index id. It returns the
// number of bytes read. When it returns nil the database is durable: the file was written under a temporary name,
// synced, renamed, and its directory synced. After any error nothing of it is left, and the error wraps the cause
// (syscall.ENOSPC, an error of r, …).
//
// If r has a method Len() int64 or Len() int, that is the declared number of bytes still to come, and a shorter or
// longer database is refused with [ErrWrongSize]; of a longer one, only one extra byte is read. A negative Len means
// unknown.
//
// An existing database with this index is replaced, once the new one is known to be complete. Both hold the same state,
// unless the old file was damaged; readers that have it open keep it. If the system cannot replace a file, as some
// cannot while it is open, the two must be equal. If only the last step fails, to sync the directory, the new one
// stays.
//
// If r has both that Len() int64 and the method of io.WriterTo, SaveDBFrom calls WriteTo, with a writer that is also an
// io.ReaderFrom and has a method File() *os.File: a reader that knows its socket can let the kernel move its bytes to
// the file without passing through memory of the process. The readers of package rafthttp do.
//
// On Linux, room is allocated some way ahead of the bytes that arrive, and these are written to the disk early,
// so that the sync at the end is short. SaveDBFrom needs 256 KiB of memory for any size of the database.
//
// It blocks for as long as r and the disk do. It does not close r. If r panics, nothing is left either.
func (s *Store) SaveDBFrom(r io.Reader, id uint64) (n int64, err error) {
	if err := s.enter(); err != nil {
		return 0, err
	}
	defer s.leave()
	defer func() { s.freeIfFull(err) }()
	size := int64(-1)
	if n, ok := declaredLen(r); ok {
		size = n
	}
	f, err := s.create(id, size, false)
	if err != nil {
		return 0, err
	}
	placed := false
	defer func() {
		if !placed {
			s.discard(f)
		}
	}()
	n, err = f.fill(r)
	if err == nil {
		err = f.finish()
	}
	if err != nil {
		return n, fmt.Errorf("snap: save database %016x: %w", id, err)
	}
	placed, err = s.place(f.Name(), id)
	if err != nil {
		return n, fmt.Errorf("snap: put database %016x in place: %w", id, err)
	}
	return n, nil
}

func (s *Store) create(id uint64, size int64, checksums bool) (*dbFile, error) {
	f, err := s.fs.CreateTemp(s.dir, fmt.Sprintf(tempPattern, id))
	if err != nil {
		return nil, fmt.Errorf("snap: create temporary file: %w", err)
	}
	return newDBFile(f, size, checksums), nil
}

// discard removes temporary files.
func (s *Store) discard(files ...*dbFile) {
	for _, f := range files {
		_ = f.Close() // some for a second time, which is harmless
		_ = s.fs.Remove(f.Name())
	}
}

func declaredLen(r io.Reader) (n int64, ok bool) {
	switch r := r.(type) {
	case interface{ Len() int64 }:
		n = r.Len()
	case interface{ Len() int }:
		n = int64(r.Len())
	default:
		return 0, false
	}
	return n, n >= 0
}

// place gives the temporary file its final name, durably; placed says whether the temporary name no longer exists.
// After an error the final name does not exist, unless it did before.
func (s *Store) place(temp string, id uint64) (placed bool, err error) {
	s.placing.Lock()
	defer s.placing.Unlock()
	path := s.path(id)
	_, err = s.fs.Stat(path)
	replaces := err == nil
	if !replaces && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	switch err := s.fs.Rename(temp, path); {
	case err == nil:
		placed = true
		s.unsave(id)
	case !replaces || !sameBytes(s.fs, temp, path):
		return false, err
	}
	if err := s.fs.SyncDir(s.dir); err != nil {
		if !replaces {
			err = errors.Join(err, s.fs.Remove(path))
		}
		return placed, err
	}
	s.countUse(id, replaces)
	return placed, nil
}

// sameBytes reports whether two files have the same content.
func sameBytes(fsys filesystem, a, b string) bool {
	var files [2]io.ReadCloser
	var bufs [2]*[]byte
	for i, path := range []string{a, b} {
		f, err := fsys.Open(path)
		if err != nil {
			return false
		}
		defer f.Close()
		files[i], bufs[i] = f, copyBuffers.Get().(*[]byte)
		defer copyBuffers.Put(bufs[i])
	}
	for {
		n, err := io.ReadFull(files[0], *bufs[0])
		m, merr := io.ReadFull(files[1], *bufs[1])
		if !bytes.Equal((*bufs[0])[:n], (*bufs[1])[:m]) {
			return false
		}
		if err != nil || merr != nil {
			return isEnd(err) && isEnd(merr)
		}
	}
}

func isEnd(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }

// DBFilePath returns the path of the database of the snapshot with index id, or [ErrNoDBSnapshot] if there is none.
// The caller may rename or remove the file.
func (s *Store) DBFilePath(id uint64) (string, error) {
	path := s.path(id)
	switch _, err := s.fs.Stat(path); {
	case err == nil:
		return path, nil
	case errors.Is(err, fs.ErrNotExist):
		return "", ErrNoDBSnapshot
	default:
		return "", fmt.Errorf("snap: find database: %w", err)
	}
}

// RemoveBefore removes the databases of all snapshots with an index smaller than id. It continues after an error, and
// returns all errors joined. Removal is not synced: some databases may reappear after a crash.
func (s *Store) RemoveBefore(id uint64) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	err := s.removeMatching(func(name string) bool {
		index, ok := indexOf(name)
		return ok && index < id
	})
	if err != nil {
		return fmt.Errorf("snap: remove old databases: %w", err)
	}
	return nil
}

// removeMatching removes the files whose name matches. A file removed meanwhile is no error.
func (s *Store) removeMatching(match func(name string) bool) error {
	entries, err := s.fs.ReadDir(s.dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if !match(e.Name()) {
			continue
		}
		if err := s.fs.Remove(filepath.Join(s.dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (s *Store) path(id uint64) string { return filepath.Join(s.dir, fmt.Sprintf(nameFormat, id)) }
