package snap

import "io"

// Filesystem and File are what a Store asks of an operating system.
type (
	Filesystem = filesystem
	File       = file
)

// OpenOn is Open on another file system.
func OpenOn(dir string, fsys Filesystem) (*Store, error) { return open(dir, fsys) }

// OpenWithoutLocks is Open on a system that has no locks.
func OpenWithoutLocks(dir string) (*Store, error) { return open(dir, withoutLocks{}) }

type withoutLocks struct{ osFilesystem }

func (withoutLocks) Lock(dir string) (io.Closer, error) { return lockInProcess(dir) }

// Closed reports whether Close was called.
func (s *Store) Closed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// Counted returns for how many databases it is counted who uses them.
func (s *Store) Counted() int { return len(s.uses) }

// Locked reports whether the lock is held that PartialDB takes.
func (s *Store) Locked() bool {
	if !s.mu.TryLock() {
		return true
	}
	s.mu.Unlock()
	return false
}

// Faults lets steps of a store fail: nil does the real thing, an error is returned instead of it.
type Faults struct {
	CreateTemp, Write, Sync, Close, Rename, Remove, SyncDir func() error

	Free func() (int64, error)
}

// OpenWithFaults is Open on a file system with faults, which may change between calls.
func OpenWithFaults(dir string, faults *Faults) (*Store, error) {
	return open(dir, faultyFilesystem{faults: faults})
}

func step(fault func() error, do func() error) error {
	if fault != nil {
		if err := fault(); err != nil {
			return err
		}
	}
	return do()
}

type faultyFilesystem struct {
	osFilesystem
	faults *Faults
}

func (f faultyFilesystem) CreateTemp(dir, pattern string) (created file, err error) {
	err = step(f.faults.CreateTemp, func() error {
		created, err = f.osFilesystem.CreateTemp(dir, pattern)
		created = faultyFile{file: created, faults: f.faults}
		return err
	})
	return created, err
}

func (f faultyFilesystem) Rename(from, to string) error {
	return step(f.faults.Rename, func() error { return f.osFilesystem.Rename(from, to) })
}

func (f faultyFilesystem) Remove(path string) error {
	return step(f.faults.Remove, func() error { return f.osFilesystem.Remove(path) })
}

func (f faultyFilesystem) SyncDir(dir string) error {
	return step(f.faults.SyncDir, func() error { return f.osFilesystem.SyncDir(dir) })
}

func (f faultyFilesystem) Free(dir string) (int64, error) {
	if f.faults.Free != nil {
		return f.faults.Free()
	}
	return f.osFilesystem.Free(dir)
}

type faultyFile struct {
	file
	faults *Faults
}

// Write writes half before a fault, as a disk that fills up does.
func (f faultyFile) Write(b []byte) (int, error) {
	if f.faults.Write != nil {
		if err := f.faults.Write(); err != nil {
			n, _ := f.file.Write(b[:len(b)/2])
			return n, err
		}
	}
	return f.file.Write(b)
}

func (f faultyFile) Sync() error { return step(f.faults.Sync, f.file.Sync) }

// Close closes in any case: the descriptor is gone after a failing close, too.
func (f faultyFile) Close() error {
	err := f.file.Close()
	return step(f.faults.Close, func() error { return err })
}

// IdleRoom is how much of the disk the part of t has, and all others together.
func (s *Store) IdleRoom(t Transfer) (part, others int64) { return s.idleRoom(t) }
