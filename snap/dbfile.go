package snap

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"sync"
	"syscall"

	"github.com/seed-4d73690b/rafthttp/internal/faultpoint"
)

const (
	// copyBufferSize is the size of reads and writes of bytes that pass through memory of the process.
	copyBufferSize = 256 << 10
	// allocateAhead is the most room that is allocated ahead of the bytes that arrived: a declared size cannot be
	// trusted.
	allocateAhead = 16 << 20
	// flushEvery is how many bytes are written before the system is told to write them to the disk, so that the sync at
	// the end finds little to do.
	flushEvery = 8 << 20
	// maxSlicesBehind is how many slices the checksum may lag behind.
	maxSlicesBehind = 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// copyBuffers holds *[]byte of copyBufferSize.
var copyBuffers = sync.Pool{New: func() any {
	b := make([]byte, copyBufferSize)
	return &b
}}

// dbFile is a database that is being written, from start to end.
type dbFile struct {
	file
	real *os.File // file, if it is one of the operating system

	size      int64 // declared size; below 0: unknown
	at        int64 // bytes written
	allocated int64 // room allocated; below 0: the file system cannot allocate
	flushed   int64 // bytes that the system was told to write

	checksums bool     // maintain sum
	behind    *summing // writes sum and summed while not nil
	sum       uint32
	summed    int64 // bytes included in sum

	failed error // error of the file, not of the data source
}

func newDBFile(f file, size int64, checksums bool) *dbFile {
	d := &dbFile{file: f, size: size, checksums: checksums}
	d.real, _ = f.(*os.File)
	return d
}

// File returns the file being written, or nil if it is not one of the operating system.
func (d *dbFile) File() *os.File { return d.real }

// Write implements io.Writer. It refuses more than the declared size, before writing any of it.
func (d *dbFile) Write(p []byte) (int, error) {
	if d.size >= 0 && int64(len(p)) > d.size-d.at {
		return 0, fmt.Errorf("%w: more than %d bytes", ErrWrongSize, d.size)
	}
	if err := d.allocate(int64(len(p))); err != nil {
		return 0, err
	}
	if err := d.joinSum(); err != nil {
		return 0, err
	}
	n, err := d.file.Write(p)
	d.at += int64(n)
	d.failed = err
	if d.checksums {
		d.sum = crc32.Update(d.sum, castagnoli, p[:n])
		d.summed += int64(n)
	}
	d.flush()
	return n, err
}

// ReadFrom implements io.ReaderFrom for a non-nil File, like File does: bytes from a connection of the
// operating system do not pass through memory of the process, except for the checksum. Call it with some MiB at a time:
// allocation and flushing happen between calls.
func (d *dbFile) ReadFrom(r io.Reader) (int64, error) {
	if err := d.allocate(0); err != nil {
		return 0, err
	}
	n, err := d.real.ReadFrom(r)
	d.at += n
	if isDiskError(err) {
		d.failed = err
	}
	d.sumBehind()
	d.flush()
	if err == nil && d.size >= 0 && d.at > d.size {
		err = fmt.Errorf("%w: more than %d bytes", ErrWrongSize, d.size)
	}
	return n, err
}

// summing is a goroutine that computes the checksum of bytes written by the kernel.
type summing struct {
	ends chan int64 // offsets to sum up to
	err  chan error // gets one value, at the end
}

// sumBehind starts or continues the checksum of bytes written by the kernel, while more are written.
func (d *dbFile) sumBehind() {
	if !d.checksums {
		return
	}
	if d.behind == nil {
		s := &summing{ends: make(chan int64, maxSlicesBehind), err: make(chan error, 1)}
		d.behind = s
		go func() { s.err <- d.sumUp(s.ends) }()
	}
	d.behind.ends <- d.at
}

// joinSum waits until all bytes are summed.
func (d *dbFile) joinSum() error {
	if d.behind == nil {
		return nil
	}
	close(d.behind.ends)
	err := <-d.behind.err
	d.behind = nil
	if err != nil {
		d.failed = err
	}
	return err
}

// sumUp reads the written bytes back. They are still in memory, and copying them from
// there costs less than writing them from memory of the process.
func (d *dbFile) sumUp(ends <-chan int64) (err error) {
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	for end := range ends {
		for d.summed < end && err == nil {
			p := (*buf)[:min(int64(len(*buf)), end-d.summed)]
			if _, err = d.real.ReadAt(p, d.summed); err == nil {
				d.sum = crc32.Update(d.sum, castagnoli, p)
				d.summed += int64(len(p))
			}
		}
	}
	return err
}

// room is the disk space of the file: bytes that arrived, and bytes allocated ahead.
func (d *dbFile) room() int64 { return max(d.at, d.allocated) }

// allocate makes room for the next bytes, at least n.
func (d *dbFile) allocate(n int64) error {
	if d.real == nil || d.allocated < 0 || d.at+max(n, allocateAhead/2) <= d.allocated || d.allocated >= d.size {
		return nil
	}
	room := min(allocateAhead, d.size-d.allocated)
	err := preallocate(d.real, d.allocated, room)
	if faultpoint.Fails(faultpoint.DiskReservation) {
		err = syscall.ENOSPC
	}
	if errors.Is(err, errors.ErrUnsupported) {
		d.allocated = -1
		return nil
	}
	d.allocated += room
	if err != nil {
		err = &os.PathError{Op: "allocate", Path: d.real.Name(), Err: err}
	}
	d.failed = err
	return err
}

// isDiskError tells errors of a file from those of the connection that is copied to it.
func isDiskError(err error) bool {
	for _, e := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG, syscall.EIO, syscall.EROFS, syscall.EINVAL} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (d *dbFile) flush() {
	if d.real != nil && d.at-d.flushed >= flushEvery {
		startWriteback(d.real, d.flushed, d.at-d.flushed)
		d.flushed = d.at
	}
}

// fill writes r to its end and returns how many bytes it read. An error of r is returned unchanged. When it
// returns, nothing else uses d.
func (d *dbFile) fill(r io.Reader) (n int64, err error) {
	defer func() {
		if serr := d.joinSum(); err == nil {
			err = serr
		}
	}()
	if d.size >= 0 {
		if _, ok := r.(interface{ Len() int64 }); ok { // no type of the standard library, which would write everything at once
			if wt, ok := r.(io.WriterTo); ok {
				return wt.WriteTo(d)
			}
		}
		r = io.LimitReader(r, d.size-d.at+1)
	}
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	for {
		m, rerr := r.Read(*buf)
		n += int64(m)
		if m > 0 {
			if _, err := d.Write((*buf)[:m]); err != nil {
				return n, err
			}
		}
		if errors.Is(rerr, io.EOF) {
			return n, nil
		}
		if rerr != nil {
			return n, rerr
		}
	}
}

// finish makes the database durable, if it is complete.
func (d *dbFile) finish() error {
	if d.size >= 0 && d.at != d.size {
		return fmt.Errorf("%w: %d of %d bytes", ErrWrongSize, d.at, d.size)
	}
	if err := d.Sync(); err != nil {
		return err
	}
	return d.Close()
}
