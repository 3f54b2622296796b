package promise

import (
	"bytes"
	"context"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/snap"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// disk keeps databases in memory. It outlives its member.
type disk struct {
	s   *simulation
	dir string // where a snap.Store has others

	mu       sync.Mutex
	saved    map[uint64][]byte // by index of the snapshot
	used     map[uint64][]byte // the same, after its message was processed
	partials map[snap.Transfer]*bytes.Buffer
}

func newDisk(s *simulation, dir string) *disk {
	return &disk{s: s, dir: dir, saved: map[uint64][]byte{}, used: map[uint64][]byte{}, partials: map[snap.Transfer]*bytes.Buffer{}}
}

// snapshotter returns who saves the databases of a member.
func (m *member) snapshotter() (rafthttp.Snapshotter, error) {
	switch m.opt.Saver {
	case "none":
		return nil, nil //nolint:nilnil // which is how a Transport has none
	case "store":
		var err error
		if m.store, err = snap.Open(m.dir); err != nil {
			return nil, err
		}
		return storeSaver{m.store, m}, nil
	case "plain", "careless":
		return plainSaver{m, m.disk, m}, nil
	}
	return resumingSaver{plainSaver{m, m.disk, m}}, nil
}

// plainSaver is a Snapshotter that cannot resume, of a member or of a replica on it.
type plainSaver struct {
	m    *member
	disk *disk
	by   interface{ enter(what string) func() }
}

// SaveDBFrom implements rafthttp.Snapshotter.
func (p plainSaver) SaveDBFrom(r io.Reader, index uint64) (int64, error) {
	defer p.by.enter("SaveDBFrom")()
	var b bytes.Buffer
	n, err := p.m.copy(&b, r)
	if err != nil && (p.m.opt.Saver != "careless" || errors.Is(err, syscall.ENOSPC)) {
		return n, err
	}
	p.disk.put(index, b.Bytes())
	return n, nil
}

// DiscardDB implements rafthttp.DiscardingSnapshotter.
func (p plainSaver) DiscardDB(index uint64, _ error) {
	defer p.by.enter("DiscardDB")()
	p.disk.take(index)
}

// resumingSaver is one that can.
type resumingSaver struct{ plainSaver }

// PartialDB implements rafthttp.ResumingSnapshotter.
func (p resumingSaver) PartialDB(t snap.Transfer) (int64, uint32) {
	defer p.by.enter("PartialDB")()
	d := p.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if db := d.whole(t.Index); db != nil {
		return int64(len(db)), crc32.Checksum(db, castagnoli)
	}
	if b := d.partials[t]; b != nil {
		return int64(b.Len()), crc32.Checksum(b.Bytes(), castagnoli)
	}
	return 0, 0
}

// ResumeDBFrom implements rafthttp.ResumingSnapshotter.
func (p resumingSaver) ResumeDBFrom(r io.Reader, t snap.Transfer, offset int64, checksum func() (uint32, error)) (int64, error) {
	defer p.by.enter("ResumeDBFrom")()
	d := p.disk
	b := d.begin(t, offset)
	if b == nil {
		return 0, snap.ErrOffset
	}
	n, err := p.m.copy(b, r)
	if err != nil {
		if p.m.opt.Torn && b.Len() > 0 {
			b.Bytes()[b.Len()/2] ^= 0xff
		}
		d.mu.Lock()
		d.partials[t] = b
		d.mu.Unlock()
		return n, err
	}
	sum, err := checksum()
	if err != nil {
		return n, err
	}
	if sum != crc32.Checksum(b.Bytes(), castagnoli) {
		return n, snap.ErrChecksum
	}
	d.put(t.Index, b.Bytes())
	return n, nil
}

// begin takes what is there of a database, up to an offset.
func (d *disk) begin(t snap.Transfer, offset int64) *bytes.Buffer {
	d.mu.Lock()
	defer d.mu.Unlock()
	if db := d.whole(t.Index); db != nil && offset == int64(len(db)) {
		return bytes.NewBuffer(bytes.Clone(db))
	}
	b := d.partials[t]
	if b == nil {
		b = new(bytes.Buffer)
	}
	if int64(b.Len()) < offset {
		return nil
	}
	delete(d.partials, t)
	b.Truncate(int(offset))
	return b
}

// whole returns a database that is there. It is called with mu held.
func (d *disk) whole(index uint64) []byte {
	if db := d.saved[index]; db != nil {
		return db
	}
	return d.used[index]
}

func (d *disk) put(index uint64, db []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.saved[index] = db
}

// take returns a database, and forgets it.
func (d *disk) take(index uint64) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	db := d.saved[index]
	delete(d.saved, index)
	if d.s.sabotaged("snapshot bytes") && len(db) > 0 {
		db = db[1:]
	}
	return db
}

// use returns a database whose message is processed. That may be more than once: its sender may not have had the answer.
func (d *disk) use(index uint64) []byte {
	db := d.take(index)
	d.mu.Lock()
	defer d.mu.Unlock()
	if db == nil {
		db = d.used[index]
	}
	d.used[index] = db
	return db
}

// unused returns of how many databases nobody has made use, in memory and in files.
func (d *disk) unused() (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	files, _ := filepath.Glob(filepath.Join(d.dir, "*.snap.db"))
	for _, f := range files {
		if index, err := strconv.ParseUint(filepath.Base(f)[:16], 16, 64); err != nil || d.used[index] == nil {
			n++
		}
	}
	return len(d.saved) + n
}

// errFull is what a full disk returns.
var errFull error = &os.PathError{Op: "write", Path: "db", Err: syscall.ENOSPC}

// copy is what a disk does with a database, which may be slow or full.
func (m *member) copy(b *bytes.Buffer, r io.Reader) (int64, error) {
	if m.full.Load() {
		return 0, errFull
	}
	n, err := io.CopyN(b, r, 1)
	if err == io.EOF { //nolint:errorlint // of CopyN
		return n, nil
	}
	if err != nil {
		return n, err
	}
	m.hang()
	rest, err := io.Copy(b, r)
	return n + rest, err
}

// hang is what a disk does in the middle of a database.
func (m *member) hang() {
	_ = m.saving.pass(context.Background())
	if m.s.sabotaged("snapshot arrives") {
		time.Sleep(time.Minute)
	}
	time.Sleep(m.opt.DiskHang)
}

// storeSaver is a snap.Store on a disk that may hang, or be full.
type storeSaver struct {
	*snap.Store
	m *member
}

// SaveDBFrom implements rafthttp.Snapshotter.
func (p storeSaver) SaveDBFrom(r io.Reader, index uint64) (int64, error) {
	defer p.m.enter("SaveDBFrom")()
	if p.m.full.Load() {
		return 0, errFull
	}
	p.m.hang()
	return p.Store.SaveDBFrom(r, index)
}

// ResumeDBFrom implements rafthttp.ResumingSnapshotter.
func (p storeSaver) ResumeDBFrom(r io.Reader, t snap.Transfer, offset int64, checksum func() (uint32, error)) (int64, error) {
	defer p.m.enter("ResumeDBFrom")()
	if p.m.full.Load() {
		return 0, errFull
	}
	p.m.hang()
	return p.Store.ResumeDBFrom(r, t, offset, checksum)
}

// PrepareDB implements rafthttp.PreparingSnapshotter.
func (p storeSaver) PrepareDB(ctx context.Context, msg *raftpb.Message, size int64) (snap.Saver, error) {
	defer p.m.enter("PrepareDB")()
	if _, err := p.Store.PrepareDB(ctx, msg, size); err != nil {
		return nil, err
	}
	return p, nil
}

// database returns what the member has saved for a snapshot whose message is processed.
func (m *member) database(index uint64) ([]byte, error) {
	if m.store == nil {
		return m.disk.use(index), nil
	}
	path, err := m.store.DBFilePath(index)
	if err != nil {
		return nil, err
	}
	db, err := os.ReadFile(path)
	if err == nil {
		m.disk.put(index, db)
		m.disk.use(index)
	}
	return db, err
}
