package snap

import (
	"errors"
	"io"
	"path/filepath"
	"runtime"
	"sync"
)

// ErrInUse is returned by [Open] for a directory in use by another [Store], of this process or another one.
var ErrInUse = errors.New("snap: directory is in use by another Store")

// Lock locks the directory against other Stores, until it is closed, or collected as garbage, or the process ends.
func (osFilesystem) Lock(dir string) (io.Closer, error) {
	l, err := lockDir(dir)
	if errors.Is(err, errors.ErrUnsupported) {
		return lockInProcess(dir)
	}
	return l, err
}

// lockedDirs has the directories that this process has locked, on systems without locks.
var lockedDirs sync.Map

// processLock locks a directory against other Stores of this process only.
type processLock struct{ path string }

func lockInProcess(dir string) (io.Closer, error) {
	path, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	l := &processLock{path}
	if _, taken := lockedDirs.LoadOrStore(path, nil); taken {
		return nil, ErrInUse
	}
	runtime.AddCleanup(l, func(path string) { lockedDirs.Delete(path) }, path)
	return l, nil
}

// Close unlocks the directory. It must not be called twice.
func (l *processLock) Close() error {
	lockedDirs.Delete(l.path)
	return nil
}
