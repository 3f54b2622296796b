package docs_test

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// osDisk is a disk of the system.
type osDisk struct{ dir string }

func (d osDisk) path(name string) string              { return filepath.Join(d.dir, name) }
func (d osDisk) Read(name string) ([]byte, error)     { return os.ReadFile(d.path(name)) }
func (d osDisk) Write(name string, data []byte) error { return os.WriteFile(d.path(name), data, 0o600) }
func (d osDisk) Rename(from, to string) error         { return os.Rename(d.path(from), d.path(to)) }
func (d osDisk) Sync(name string) error               { return d.with(name, os.O_WRONLY, (*os.File).Sync) }
func (d osDisk) SyncDir() error                       { return d.with(".", os.O_RDONLY, (*os.File).Sync) }
func (d osDisk) Append(name string, data []byte) error { // opens the file by its name: after Rename that is the new one
	return d.with(name, os.O_WRONLY|os.O_APPEND, func(f *os.File) error { _, err := f.Write(data); return err })
}

func (d osDisk) with(name string, flag int, do func(*os.File) error) error {
	f, err := os.OpenFile(d.path(name), flag, 0)
	if err != nil {
		return err
	}
	return errors.Join(do(f), f.Close())
}

var (
	errCrash = errors.New("the process has crashed")
	errFails = errors.New("input/output error")
)

// fileContent is a file: what the process sees, and what is durable.
type fileContent struct{ data, durable []byte }

// nameChange gives a file a name, and takes another name away.
type nameChange struct {
	name, gone string
	file       *fileContent
}

// crashDisk is a disk in memory that fails in one call: once, or for ever as if the process had crashed. Its methods may be called
// concurrently.
type crashDisk struct {
	mu            sync.Mutex
	names         map[string]*fileContent
	durableNames  map[string]*fileContent
	changes       []nameChange // since SyncDir
	calls, failAt int          // failAt 0: never
	fails         error        // what the call returns: errCrash or errFails
}

func newCrashDisk() *crashDisk {
	return &crashDisk{names: map[string]*fileContent{}, durableNames: map[string]*fileContent{}}
}

// call counts a call and says whether it fails.
func (d *crashDisk) call() error {
	d.calls++
	if d.failAt == 0 || d.calls < d.failAt || d.fails != errCrash && d.calls > d.failAt { //nolint:errorlint // one of two
		return nil
	}
	return d.fails
}

func (d *crashDisk) Read(name string) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.names[name]
	if f == nil {
		return nil, fs.ErrNotExist
	}
	return slices.Clone(f.data), nil
}

func (d *crashDisk) Write(name string, data []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.call()
	if err != nil {
		data = data[:len(data)/2] // a part was written
	}
	f := &fileContent{data: slices.Clone(data)}
	d.names[name] = f
	d.changes = append(d.changes, nameChange{name: name, file: f})
	return err
}

func (d *crashDisk) Append(name string, data []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.call()
	if err != nil {
		data = data[:len(data)/2]
	}
	f := d.names[name]
	f.data = append(f.data, data...)
	return err
}

func (d *crashDisk) Sync(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.call()
	if err == nil {
		f := d.names[name]
		f.durable = slices.Clone(f.data)
	}
	return err
}

func (d *crashDisk) Rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.call()
	if err == nil {
		f := d.names[from]
		delete(d.names, from)
		d.names[to] = f
		d.changes = append(d.changes, nameChange{to, from, f})
	}
	return err
}

func (d *crashDisk) SyncDir() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.call()
	if err == nil {
		d.durableNames, d.changes = maps.Clone(d.names), nil
	}
	return err
}

const killed = "the process is killed"

// losses are what a crash may leave of changes that were not synced: whether the i-th of n changes of names is kept, and how much of
// the data of a file.
var losses = map[string]struct {
	name func(i, n int) bool
	data func(f *fileContent) []byte
}{
	killed:                               {},
	"power is lost, and all":             {func(int, int) bool { return false }, func(f *fileContent) []byte { return f.durable }},
	"power is lost, names are kept":      {func(int, int) bool { return true }, func(f *fileContent) []byte { return f.durable }},
	"power is lost, the last name kept":  {func(i, n int) bool { return i == n-1 }, func(f *fileContent) []byte { return f.durable }},
	"power is lost, the first name kept": {func(i, _ int) bool { return i == 0 }, func(f *fileContent) []byte { return f.durable }},
	"power is lost, half of a write kept": {func(int, int) bool { return false }, func(f *fileContent) []byte {
		if len(f.durable) > len(f.data) {
			return f.data
		}
		return f.data[:(len(f.durable)+len(f.data)+1)/2]
	}},
}

// after returns the disk as the next process finds it.
func (d *crashDisk) after(loss string) *crashDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	if loss == killed { // what it had not synced is there, and can still be lost
		return &crashDisk{names: d.names, durableNames: d.durableNames, changes: d.changes}
	}
	names := maps.Clone(d.durableNames)
	for i, c := range d.changes {
		if losses[loss].name(i, len(d.changes)) {
			delete(names, c.gone)
			names[c.name] = c.file
		}
	}
	next := newCrashDisk()
	for name, f := range names {
		data := losses[loss].data(f)
		next.names[name] = &fileContent{slices.Clone(data), data}
	}
	next.durableNames = maps.Clone(next.names)
	return next
}

// failLater has the disk crash in one of the next calls.
func (d *crashDisk) failLater(calls int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failAt, d.fails = d.calls+calls, errCrash
}
