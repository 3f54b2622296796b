package storage

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// Disk is what a Storage does with the file system, except for reading and
// writing copies: a test has one that crashes.
type Disk interface {
	// OpenDB opens a database, which it makes if it is missing.
	OpenDB(path string, opts *bolt.Options) (*bolt.DB, error)
	Mkdir(dir string) error
	Rename(from, to string) error
	Remove(path string) error
	// SyncDir makes the names in a directory durable.
	SyncDir(dir string) error
	// AlmostFull says whether less than a twentieth of the room for the files of
	// a directory is left.
	AlmostFull(dir string) bool
}

type systemDisk struct{}

func (systemDisk) OpenDB(path string, opts *bolt.Options) (*bolt.DB, error) {
	db, err := bolt.Open(path, 0o600, opts)
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, errors.New(path + " is in use by another process")
	}
	return db, err
}

func (systemDisk) Mkdir(dir string) error       { return os.Mkdir(dir, 0o700) }
func (systemDisk) Rename(from, to string) error { return os.Rename(from, to) }
func (systemDisk) Remove(path string) error     { return os.Remove(path) }

func (systemDisk) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// makeDir makes dir, and those above it that are missing. The name of each is
// durable when something is made in it.
func makeDir(disk Disk, dir string) error {
	parent := filepath.Dir(dir)
	err := disk.Mkdir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if err = makeDir(disk, parent); err == nil {
			err = disk.Mkdir(dir)
		}
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := disk.SyncDir(parent); !errors.Is(err, fs.ErrPermission) { // not ours, then, and dir was there
		return err
	}
	return nil
}

// openDB opens a database. One that is missing is made under another name
// first, so that a crash leaves a whole one or none.
func openDB(disk Disk, path string, opts bolt.Options) (*bolt.DB, error) {
	opts.Timeout = lockTimeout
	opts.FreelistType = bolt.FreelistMapType
	opts.NoFreelistSync = true
	opts.NoStatistics = true
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && !opts.ReadOnly {
		if err := createDB(disk, path, &opts); err != nil {
			return nil, err
		}
	}
	return disk.OpenDB(path, &opts)
}

func createDB(disk Disk, path string, opts *bolt.Options) error {
	temp := path + ".new"
	if err := disk.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	db, err := disk.OpenDB(temp, opts)
	if err != nil {
		return err
	}
	if err := db.Close(); err != nil {
		return err
	}
	if err := disk.Rename(temp, path); err != nil {
		return err
	}
	return disk.SyncDir(filepath.Dir(path))
}
