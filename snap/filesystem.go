package snap

import (
	"io"
	"io/fs"
	"os"
	"runtime"
)

// filesystem has all calls of Store to the operating system, so that a test can let any of them fail, or lose unsynced
// changes.
type filesystem interface {
	Lock(dir string) (io.Closer, error)
	Stat(path string) (fs.FileInfo, error)
	ReadDir(dir string) ([]fs.DirEntry, error)
	Open(path string) (io.ReadCloser, error)
	Mkdir(dir string) error // readable by this user only
	CreateTemp(dir, pattern string) (file, error)
	Rename(from, to string) error
	Remove(path string) error
	SyncDir(dir string) error
	Free(dir string) (int64, error) // bytes
}

type file interface {
	io.WriteCloser
	Name() string
	Sync() error
}

type osFilesystem struct{}

func (osFilesystem) Stat(path string) (fs.FileInfo, error)     { return os.Stat(path) }
func (osFilesystem) ReadDir(dir string) ([]fs.DirEntry, error) { return os.ReadDir(dir) }
func (osFilesystem) Open(path string) (io.ReadCloser, error)   { return os.Open(path) }
func (osFilesystem) Mkdir(dir string) error                    { return os.Mkdir(dir, 0o700) }

func (osFilesystem) CreateTemp(dir, pattern string) (file, error) {
	f, err := os.CreateTemp(dir, pattern)
	if err != nil {
		return nil, err // not f: a nil *os.File in an interface is not nil
	}
	return f, nil
}

func (osFilesystem) Rename(from, to string) error { return os.Rename(from, to) }
func (osFilesystem) Remove(path string) error     { return os.Remove(path) }

func (osFilesystem) Free(dir string) (int64, error) { return freeBytes(dir) }

func (osFilesystem) SyncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // Windows cannot sync a directory
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
