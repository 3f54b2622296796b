package snap_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/seed-4d73690b/rafthttp/snap"
)

// disk is a file system in memory that knows which of its changes survive a loss of power. It guarantees what POSIX does
// and no more: File.Sync makes the bytes of a file durable, but not its name, and SyncDir the names in one directory, but
// not the name of that directory. A call that ends before the loss of power is as good as one that never came, unless it
// was synced.
type disk struct {
	base    image // durable from the start
	now     image // what a process sees
	changes []*change
	calls   int // that were made
	temps   int

	// fault, if not nil, lets a call fail: it changes nothing then.
	fault func(call int, name string) error
}

// node is the number of a file or directory; that of the root is 0.
type node int

// image is what is on a disk.
type image struct {
	dirs  map[node]map[string]node
	files map[node][]byte
	next  node
}

// change is one change of a disk.
type change struct {
	call    int // that made it
	durable int // call that made it durable; 0: none

	dir      node   // whose names it changes, or the file that it writes to
	from, to string // names: of a new one only to, of a removed one only from
	of       node   // that is named
	created  bool
	isDir    bool
	data     []byte // bytes written, at offset
	offset   int
}

// fate is what becomes of a change that was not synced.
type fate int

const (
	lost fate = iota
	kept
	torn   // half of what was written
	zeroed // the length of what was written, without the bytes
)

// fates returns what may become of a change.
func (c *change) fates() []fate {
	if len(c.data) > 0 {
		return []fate{lost, kept, torn, zeroed}
	}
	return []fate{lost, kept}
}

func newDisk() *disk {
	return diskOf(image{dirs: map[node]map[string]node{0: {}}, files: map[node][]byte{}, next: 1})
}

// diskOf returns a disk on which all of this is durable.
func diskOf(base image) *disk { return &disk{base: base, now: base.clone()} }

func (i image) clone() image {
	c := image{dirs: make(map[node]map[string]node, len(i.dirs)), files: make(map[node][]byte, len(i.files)), next: i.next}
	for dir, names := range i.dirs {
		c.dirs[dir] = maps.Clone(names)
	}
	for file, data := range i.files {
		c.files[file] = slices.Clone(data)
	}
	return c
}

func (i *image) apply(c *change, f fate) {
	if c.created { // it may get another name later, although this one is lost
		i.create(c.of, c.isDir)
	}
	if f == lost {
		return
	}
	if c.data != nil {
		end := c.offset + len(c.data)
		if f == torn {
			end = c.offset + len(c.data)/2
		}
		data := i.files[c.dir]
		for len(data) < end {
			data = append(data, 0)
		}
		if f != zeroed {
			copy(data[c.offset:end], c.data)
		}
		i.files[c.dir] = data
		return
	}
	if c.from != "" {
		delete(i.dirs[c.dir], c.from)
	}
	if c.to == "" {
		return
	}
	i.dirs[c.dir][c.to] = c.of
}

func (i *image) create(n node, isDir bool) {
	if isDir {
		i.dirs[n] = map[string]node{}
	} else {
		i.files[n] = []byte{}
	}
}

// find returns the directory that p is in, and what p is, if it is there.
func (i *image) find(p string) (dir, of node, err error) {
	if p == "/" {
		return 0, 0, nil
	}
	for _, name := range strings.Split(strings.Trim(path.Dir(p), "/"), "/") {
		if name == "" {
			continue
		}
		of, ok := i.dirs[dir][name]
		if !ok || i.dirs[of] == nil {
			return 0, 0, &fs.PathError{Op: "find", Path: p, Err: fs.ErrNotExist}
		}
		dir = of
	}
	of, ok := i.dirs[dir][path.Base(p)]
	if !ok {
		return dir, 0, &fs.PathError{Op: "find", Path: p, Err: fs.ErrNotExist}
	}
	return dir, of, nil
}

// lostPower calls f for each state in which a loss of power after this call may leave the disk.
func (d *disk) lostPower(after int, f func(survivor *disk, fates map[*change]fate)) {
	var open []*change // may be lost or not
	for _, c := range d.changes {
		if c.call <= after && (c.durable == 0 || c.durable > after) {
			open = append(open, c)
		}
	}
	fates := map[*change]fate{}
	var each func(rest []*change)
	each = func(rest []*change) {
		if len(rest) > 0 {
			for _, fate := range rest[0].fates() {
				fates[rest[0]] = fate
				each(rest[1:])
			}
			return
		}
		left := d.base.clone()
		for _, c := range d.changes {
			if c.call > after {
				break
			}
			fate, undecided := fates[c]
			if !undecided {
				fate = kept
			}
			left.apply(c, fate)
		}
		left.next = d.now.next
		f(&disk{now: left}, fates)
	}
	each(open)
}

// call counts a call, and returns the error that it is to fail with.
func (d *disk) call(name string) error {
	d.calls++
	if d.fault == nil {
		return nil
	}
	return d.fault(d.calls, name)
}

func (d *disk) change(c *change) {
	c.call = d.calls
	d.changes = append(d.changes, c)
	d.now.apply(c, kept)
}

// sync makes the changes of a directory's names, or of a file's bytes, durable.
func (d *disk) sync(of node) {
	for _, c := range d.changes {
		if c.dir == of && c.durable == 0 {
			c.durable = d.calls
		}
	}
}

// Lock locks nothing: a process that is killed does not unlock anything either.
func (d *disk) Lock(p string) (io.Closer, error) { return io.NopCloser(nil), d.call("lock " + p) }

func (d *disk) Stat(p string) (fs.FileInfo, error) {
	if err := d.call("stat " + p); err != nil {
		return nil, err
	}
	_, of, err := d.now.find(p)
	if err != nil {
		return nil, err
	}
	return info{name: path.Base(p), size: int64(len(d.now.files[of])), dir: d.now.dirs[of] != nil}, nil
}

func (d *disk) ReadDir(p string) (all []fs.DirEntry, err error) {
	if err := d.call("read " + p); err != nil {
		return nil, err
	}
	_, of, err := d.now.find(p)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(d.now.dirs[of])) {
		all = append(all, fs.FileInfoToDirEntry(info{name: name}))
	}
	return all, nil
}

func (d *disk) Open(p string) (io.ReadCloser, error) {
	if err := d.call("open " + p); err != nil {
		return nil, err
	}
	_, of, err := d.now.find(p)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(d.now.files[of])), nil
}

func (d *disk) Mkdir(p string) error {
	if err := d.call("mkdir " + p); err != nil {
		return err
	}
	_, err := d.create(p, true)
	return err
}

func (d *disk) create(p string, isDir bool) (node, error) {
	if _, _, err := d.now.find(p); err == nil {
		return 0, fs.ErrExist
	}
	_, dir, err := d.now.find(path.Dir(p))
	if err != nil {
		return 0, err
	}
	of := d.now.next
	d.now.next++
	d.change(&change{dir: dir, to: path.Base(p), of: of, created: true, isDir: isDir})
	return of, nil
}

func (d *disk) CreateTemp(dir, pattern string) (snap.File, error) {
	if err := d.call("create in " + dir); err != nil {
		return nil, err
	}
	d.temps++
	name := path.Join(dir, strings.Replace(pattern, "*", fmt.Sprint(d.temps), 1))
	of, err := d.create(name, false)
	if err != nil {
		return nil, err
	}
	return &diskFile{disk: d, name: name, node: of}, nil
}

func (d *disk) Rename(from, to string) error {
	if err := d.call("rename " + from); err != nil {
		return err
	}
	dir, of, err := d.now.find(from)
	if err != nil {
		return err
	}
	if path.Dir(from) != path.Dir(to) {
		return errors.New("the model has no renames from one directory to another")
	}
	d.change(&change{dir: dir, from: path.Base(from), to: path.Base(to), of: of})
	return nil
}

func (d *disk) Remove(p string) error {
	if err := d.call("remove " + p); err != nil {
		return err
	}
	dir, _, err := d.now.find(p)
	if err != nil {
		return err
	}
	d.change(&change{dir: dir, from: path.Base(p)})
	return nil
}

func (d *disk) SyncDir(p string) error {
	if err := d.call("sync " + p); err != nil {
		return err
	}
	_, of, err := d.now.find(p)
	if err == nil {
		d.sync(of)
	}
	return err
}

func (d *disk) Free(p string) (int64, error) { return 1 << 40, d.call("free " + p) }

// diskFile is a file of a disk that is written.
type diskFile struct {
	disk *disk
	name string
	node node
}

func (f *diskFile) Name() string { return f.name }

func (f *diskFile) Write(p []byte) (int, error) {
	if err := f.disk.call("write " + f.name); err != nil {
		return 0, err
	}
	f.disk.change(&change{dir: f.node, data: slices.Clone(p), offset: len(f.disk.now.files[f.node])})
	return len(p), nil
}

// Sync makes the bytes durable. After it has failed, what was written before is never: the system forgets that it is not.
func (f *diskFile) Sync() error {
	err := f.disk.call("sync " + f.name)
	if err == nil {
		f.disk.sync(f.node)
		return nil
	}
	for _, c := range f.disk.changes {
		if c.dir == f.node && c.durable == 0 {
			c.durable = never
		}
	}
	return err
}

const never = 1 << 30

func (f *diskFile) Close() error { return f.disk.call("close " + f.name) }

type info struct {
	name string
	size int64
	dir  bool
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.size }
func (i info) ModTime() time.Time { return time.Time{} }
func (i info) IsDir() bool        { return i.dir }
func (i info) Sys() any           { return nil }

func (i info) Mode() fs.FileMode {
	if i.dir {
		return fs.ModeDir | 0o700
	}
	return 0o600
}
