// Package crashdisk is a disk for tests that fails from some call on, as if the
// process had died in it, and that then loses what a loss of power would take
// along. The files are those of the system; what is durable of them is modelled.
package crashdisk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	bolt "go.etcd.io/bbolt"
)

// ErrCrashed is what every call returns from the crash on.
var ErrCrashed = errors.New("the process has crashed")

// Crash says how a process dies in a call, and what is left of what it had not
// synced.
type Crash struct {
	// Done says that the call is carried out before the process dies in it.
	Done bool
	// Keeps says whether the n-th change of n changes that were not synced
	// survives. Nil means that all do: the process has died, the machine goes on.
	Keeps func(i, n int) bool
}

// Crashes are the ways to die that are worth a try.
var Crashes = map[string]Crash{
	"killed before":                   {},
	"killed after":                    {Done: true},
	"power lost, nothing kept":        {Done: true, Keeps: func(int, int) bool { return false }},
	"power lost, the first kept":      {Done: true, Keeps: func(i, n int) bool { return i < n/2 }},
	"power lost, the last kept":       {Done: true, Keeps: func(i, n int) bool { return i >= n/2 }},
	"power lost, every other kept":    {Done: true, Keeps: func(i, _ int) bool { return i%2 == 1 }},
	"power lost before, nothing kept": {Keeps: func(int, int) bool { return false }},
}

// Disk is a storage.Disk. Its methods may be called concurrently.
type Disk struct {
	// Crashes is called before each call to the disk, with its number from 1 on
	// and what it does: "write data.db", "rename data.db", … It says whether, and
	// how, the process dies in it. Nil: never.
	Crashes func(call int, what string) *Crash
	// Fails is called before each call to the disk, with what it does. An error is
	// what the call returns, without being carried out, and the process goes on.
	// Nil: none fails.
	Fails func(what string) error
	// Full is what AlmostFull says.
	Full atomic.Bool
	// SyncTime is how long a sync takes; a commit has two. Commits of two
	// databases wait at the same time.
	SyncTime time.Duration

	mu      sync.Mutex
	calls   int
	crash   *Crash
	files   map[string]*file // databases, by path
	pending []change         // that a loss of power may undo, oldest first

	committed *file // by the last call; it is synced before there is another
}

// file is a database: what of it is durable, and on what its name is.
type file struct {
	path    string
	durable []byte
}

// change is one that is not synced: a write, or what happened to a name.
type change struct {
	file *file // written to
	data []byte
	at   int64

	dir  string // whose sync makes it durable
	undo func() error
}

// enter counts a call. It returns an error if the process has died, or dies
// before the call; and whether it dies after it.
func (d *Disk) enter(what string) (dies bool, err error) {
	if d.crash != nil {
		return false, ErrCrashed
	}
	d.calls++
	if d.Fails != nil {
		if err := d.Fails(what); err != nil {
			return false, err
		}
	}
	if d.Crashes == nil {
		return false, nil
	}
	if d.crash = d.Crashes(d.calls, what); d.crash == nil {
		return false, nil
	}
	if !d.crash.Done {
		return false, ErrCrashed
	}
	return true, nil
}

// do carries out a call. Who makes it has synced a file before, or nil: bbolt
// syncs what it has written before it writes one of the two pages at the begin,
// which commit it, and syncs that before the commit returns.
func (d *Disk) do(what string, file *file, call func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.crash == nil {
		d.synced(file)
		d.synced(d.committed)
		d.committed = nil
	}
	dies, err := d.enter(what)
	if err == nil {
		err = call()
	}
	if dies {
		return ErrCrashed
	}
	return err
}

// Calls is how many there were.
func (d *Disk) Calls() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.calls
}

// OpenDB implements storage.Disk.
func (d *Disk) OpenDB(path string, opts *bolt.Options) (db *bolt.DB, err error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && !opts.ReadOnly {
		if err := d.create(path, opts); err != nil {
			return nil, err
		}
	}
	err = d.do("open "+filepath.Base(path), nil, func() error {
		if db, err = bolt.Open(path, 0o600, opts); err != nil || opts.ReadOnly {
			return err
		}
		db.NoSync = true // only the model has to know
		return d.watch(path, db)
	})
	if err != nil && db != nil {
		err = errors.Join(err, db.Close())
	}
	return db, err
}

// create makes a database. A process that dies in it leaves a file of the right
// size with nothing in it.
func (d *Disk) create(path string, opts *bolt.Options) error {
	return d.do("create "+filepath.Base(path), nil, func() error {
		d.pending = append(d.pending, change{dir: filepath.Dir(path), undo: func() error { return os.Remove(path) }})
		if d.crash != nil {
			return os.WriteFile(path, make([]byte, 4*os.Getpagesize()), 0o600)
		}
		db, err := bolt.Open(path, 0o600, opts)
		if err != nil {
			return err
		}
		return db.Close() // it has synced the file
	})
}

// watch has all writes of a database go through the disk, by a hook that bbolt
// has for tests of its own.
func (d *Disk) watch(path string, db *bolt.DB) error {
	durable, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	f := &file{path: path, durable: durable}
	if d.files == nil {
		d.files = make(map[string]*file)
	}
	d.files[path] = f
	hook := reflect.ValueOf(db).Elem().FieldByName("ops").FieldByName("writeAt")
	if !hook.IsValid() {
		return errors.New("bbolt has no hook for writes any more")
	}
	writeAt := (*func([]byte, int64) (int, error))(unsafe.Pointer(hook.UnsafeAddr()))
	system := *writeAt
	*writeAt = func(b []byte, at int64) (n int, err error) {
		what, before := "write ", (*file)(nil)
		commits := at < 2*int64(os.Getpagesize())
		if commits {
			what, before = "commit ", f
			time.Sleep(2 * d.SyncTime)
		}
		err = d.do(what+filepath.Base(f.path), before, func() error {
			d.pending = append(d.pending, change{file: f, data: append([]byte(nil), b...), at: at})
			if commits {
				d.committed = f
			}
			n, err = system(b, at)
			return err
		})
		return n, err
	}
	return nil
}

// synced makes durable what was written to a file.
func (d *Disk) synced(f *file) {
	if f == nil {
		return
	}
	var others []change
	for _, c := range d.pending {
		if c.file == f {
			f.write(c)
		} else {
			others = append(others, c)
		}
	}
	d.pending = others
}

func (f *file) write(c change) {
	if end := int(c.at) + len(c.data); end > len(f.durable) {
		f.durable = append(f.durable, make([]byte, end-len(f.durable))...)
	}
	copy(f.durable[c.at:], c.data)
}

// Mkdir implements storage.Disk.
func (d *Disk) Mkdir(dir string) error {
	return d.do("mkdir "+filepath.Base(dir), nil, func() error {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
		d.pending = append(d.pending, change{dir: filepath.Dir(dir), undo: func() error { return os.RemoveAll(dir) }})
		return nil
	})
}

// Rename implements storage.Disk. A loss of power leaves it as it was before, or
// as it is after.
func (d *Disk) Rename(from, to string) error {
	return d.do("rename "+filepath.Base(to), nil, func() error {
		moved, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		old, err := os.ReadFile(to) // no commit is under way
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		replaced := err == nil
		if err := os.Rename(from, to); err != nil {
			return err
		}
		delete(d.files, to)
		if f, ok := d.files[from]; ok {
			delete(d.files, from)
			f.path, d.files[to] = to, f
		}
		d.pending = append(d.pending, change{dir: filepath.Dir(to), undo: func() error {
			err := os.Remove(to)
			if replaced {
				err = os.WriteFile(to, old, 0o600)
			}
			return errors.Join(err, os.WriteFile(from, moved, 0o600))
		}})
		return nil
	})
}

// Remove implements storage.Disk.
func (d *Disk) Remove(path string) error {
	return d.do("remove "+filepath.Base(path), nil, func() error { return os.Remove(path) })
}

// SyncDir implements storage.Disk.
func (d *Disk) SyncDir(dir string) error {
	return d.do("sync "+filepath.Base(dir), nil, func() error {
		var others []change
		for _, c := range d.pending {
			if c.dir != dir {
				others = append(others, c)
			}
		}
		d.pending = others
		return nil
	})
}

// AlmostFull implements storage.Disk.
func (d *Disk) AlmostFull(string) bool { return d.Full.Load() }

// Crashed says whether the process has died.
func (d *Disk) Crashed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.crash != nil
}

// Restart leaves on the disk what the crash has left. All databases must be
// closed; from now on calls are carried out again.
func (d *Disk) Restart() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.crash == nil {
		return errors.New("there was no crash")
	}
	keeps := d.crash.Keeps
	changes := d.pending
	d.crash, d.pending, d.committed = nil, nil, nil
	files := d.files
	d.files = nil
	if keeps == nil {
		return nil
	}
	// Files first, as their names are now; what a lost rename uncovers is durable.
	for i, c := range changes {
		if c.file != nil && keeps(i, len(changes)) {
			c.file.write(c)
		}
	}
	for path, f := range files {
		info, err := os.Stat(path)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		f.durable = append(f.durable, make([]byte, max(0, int(info.Size())-len(f.durable)))...) // bbolt syncs growth
		if err := os.WriteFile(path, f.durable, 0o600); err != nil {
			return err
		}
	}
	// A file system keeps what happens to names in order.
	lost := false
	var undo []change
	for i, c := range changes {
		if c.undo != nil {
			if lost = lost || !keeps(i, len(changes)); lost {
				undo = append(undo, c)
			}
		}
	}
	for i := len(undo) - 1; i >= 0; i-- {
		if err := undo[i].undo(); err != nil {
			return err
		}
	}
	return nil
}
