package snapshot

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// maxEmptyReads is how often in a row a reader may return no bytes and no error.
const maxEmptyReads = 100

// source is the application's reader of a database, checked for its size.
type source struct {
	exactReader
	size   int64
	file   *os.File    // the reader, if it is a regular file
	info   os.FileInfo // of file, when the transfer began
	seeker io.Seeker   // the reader, if it can seek; nil if not
	base   int64       // start of the database, as seeker counts
	late   *lateReader // opens the reader; nil if it was open

	reading atomic.Bool // a call of the application's reader is in progress
}

// newSource returns the source of the database in r, which may be nil. Call begin first.
// newSource does not call r.
func newSource(r io.Reader, size int64) *source {
	late, _ := r.(*lateReader)
	return &source{exactReader: exactReader{r: r, remaining: size}, size: size, late: late}
}

// inspect detects the methods of the reader beside Read.
func (d *source) inspect() {
	defer func() {
		if recover() != nil { // in a method of the reader: then only Read is used
			d.file, d.seeker = nil, nil
		}
	}()
	if f := fileOf(d.r); f != nil {
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			d.file, d.info, d.r = f, info, f
		}
	}
	seeker, ok := d.r.(io.Seeker)
	if !ok {
		return
	}
	if at, err := seeker.Seek(0, io.SeekCurrent); err == nil && at >= 0 {
		d.seeker, d.base = seeker, at
	} else {
		d.file = nil
	}
}

// canSeek reports whether the reader can seek.
func (d *source) canSeek() bool { return d.seeker != nil }

// canBeginAgain reports whether goTo can go back to the first byte. That of a reader that can be opened again is called at any time.
func (d *source) canBeginAgain() bool { return d.late != nil || d.canSeek() }

// skip notes that the next n bytes of file were read without Read.
func (d *source) skip(n int64) { d.remaining -= n }

// fileOf returns the file that r is. A reader that contains a file may change its bytes,
// so its methods do not tell.
func fileOf(r io.Reader) *os.File {
	switch f := r.(type) {
	case *os.File:
		return f
	case *snap.FileReader:
		if f != nil {
			return f.OS()
		}
	}
	return nil
}

// at returns how much of the database was read.
func (d *source) at() int64 { return d.size - d.remaining }

// goTo seeks to an offset of the database: 0, unless the reader can seek.
func (d *source) goTo(offset int64) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%w: panic in Seek: %v", ErrReader, v)
		}
	}()
	switch {
	case d.at() == offset:
		return nil
	case d.seeker == nil && (d.late == nil || offset > 0):
		return fmt.Errorf("%w: it cannot go back", ErrReader)
	case d.closed.Load():
		return errReaderClosed
	case d.seeker == nil:
		return d.reopen()
	}
	d.reading.Store(true)
	defer d.reading.Store(false)
	if _, err := d.seeker.Seek(d.base+offset, io.SeekStart); err != nil {
		return fmt.Errorf("%w: %w", ErrReader, err)
	}
	d.remaining, d.holds = d.size-offset, false
	return nil
}

// reopen begins the database again with another reader.
func (d *source) reopen() error {
	d.reading.Store(true)
	d.late.shut()
	d.remaining, d.holds, d.file, d.info = d.size, false, nil, nil
	return d.begin()
}

// Read implements io.Reader, like exactReader. It withholds the last byte of a file that has
// changed.
func (d *source) Read(p []byte) (int, error) {
	d.reading.Store(true)
	n, err := d.exactReader.Read(p)
	d.reading.Store(false)
	if errors.Is(err, io.EOF) {
		if err := d.unchanged(); err != nil {
			return 0, err
		}
	}
	return n, err
}

// unchanged returns an error if the reader is a file that has changed since the start of the
// transfer.
func (d *source) unchanged() error {
	if d.file == nil {
		return nil
	}
	d.reading.Store(true)
	defer d.reading.Store(false)
	now, err := d.file.Stat()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrReader, err)
	}
	if was := d.info; now.Size() != was.Size() || !now.ModTime().Equal(was.ModTime()) || !os.SameFile(now, was) {
		return fmt.Errorf("%w: %d bytes of %v, then %d bytes of %v", ErrChanged,
			was.Size(), was.ModTime(), now.Size(), now.ModTime())
	}
	return nil
}

// begin opens the reader if that is still to be done, inspects it, and then calls begin of exactReader.
func (d *source) begin() error {
	d.reading.Store(true)
	defer d.reading.Store(false)
	if d.late != nil {
		r, err := d.late.get()
		if err != nil {
			return err
		}
		d.r = r
	}
	d.inspect()
	return d.exactReader.begin()
}

// errReaderStalled means that the reader makes no progress.
var errReaderStalled = fmt.Errorf("%w: %w", ErrReader, errs.ErrStalled)

// errReaderClosed ends reading a database that was closed meanwhile.
var errReaderClosed = fmt.Errorf("%w: it was closed", ErrReader)

// exactReader reads exactly the remaining bytes from r. Its errors are those of r, wrapped
// in ErrReader, and ErrSize; a panic of r is an error.
//
// It returns the last byte only after r has reported its end, so that an incomplete database
// is never considered complete. It withholds one byte, not more: the receiver of the bytes has its own
// limits for progress, and r may be slow to report its end.
type exactReader struct {
	r         io.Reader // nil: empty
	remaining int64     // bytes still to return

	holds  bool // held was read, and not yet returned: one of the last two
	held   byte
	closed atomic.Bool // r is no longer called
}

// begin checks what Read would not notice: a negative size, and data where
// none was declared.
func (e *exactReader) begin() error {
	if e.remaining < 0 {
		return fmt.Errorf("%w: it is declared as %d bytes", ErrSize, e.remaining)
	}
	if e.remaining == 0 {
		if err := e.end(); !errors.Is(err, io.EOF) {
			return err
		}
	}
	return nil
}

// unread returns how many bytes r still has.
func (e *exactReader) unread() int64 {
	if e.holds {
		return e.remaining - 1
	}
	return e.remaining
}

// Read implements io.Reader. It returns the last byte together with io.EOF.
func (e *exactReader) Read(p []byte) (int, error) {
	if e.unread() == 0 {
		return e.last(p)
	}
	n := 0
	if e.holds {
		p[0], n = e.held, 1
		e.holds = false
	}
	var err error
	if n < len(p) {
		var m int
		m, err = e.readSome(p[n:min(int64(len(p)), e.remaining)])
		n += m
	}
	left := e.remaining - int64(n)
	switch {
	case errors.Is(err, io.EOF) && left > 0:
		err = fmt.Errorf("%w: it ended %d bytes early", ErrShort, left)
	case errors.Is(err, io.EOF):
		err = nil // last asks again
	case err != nil:
		err = fmt.Errorf("%w: %w", ErrReader, err)
	}
	if left <= 1 && n > 1 || left == 0 {
		n--
		e.held, e.holds = p[n], true
	}
	e.remaining -= int64(n)
	if n == 0 && err == nil {
		return e.Read(p)
	}
	return n, err
}

// last is Read after r has no more bytes: it returns the held byte.
func (e *exactReader) last(p []byte) (int, error) {
	if err := e.end(); !errors.Is(err, io.EOF) || !e.holds {
		return 0, err
	}
	p[0] = e.held
	e.holds, e.remaining = false, 0
	return 1, io.EOF
}

// end returns io.EOF if r is at its end.
func (e *exactReader) end() error {
	var one [1]byte
	n, err := e.readSome(one[:])
	switch {
	case n > 0:
		return fmt.Errorf("%w: it goes on behind its end", ErrLong)
	case errors.Is(err, io.EOF):
		return io.EOF
	default:
		return fmt.Errorf("%w: %w", ErrReader, err)
	}
}

// readSome reads at least one byte, or returns an error: that of r, or one
// for a fault of r.
func (e *exactReader) readSome(p []byte) (int, error) {
	if e.r == nil {
		return 0, io.EOF
	}
	for range maxEmptyReads {
		if e.closed.Load() {
			return 0, errReaderClosed
		}
		n, err := safeRead(e.r, p)
		if n < 0 || n > len(p) {
			return 0, fmt.Errorf("invalid count from Read: %d", n)
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
	return 0, io.ErrNoProgress
}

func safeRead(r io.Reader, p []byte) (n int, err error) {
	defer func() {
		if v := recover(); v != nil {
			n, err = 0, fmt.Errorf("panic in Read: %v", v)
		}
	}()
	return r.Read(p)
}
