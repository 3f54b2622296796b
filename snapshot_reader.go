package rafthttp

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"github.com/seed-4d73690b/rafthttp/snap"
)

// isReaderFailure reports whether a transfer failed by its reader alone.
func isReaderFailure(err error) bool {
	return errors.Is(err, ErrSnapshotReader) || errors.Is(err, ErrSnapshotSize)
}

// maxEmptyReads is how often in a row a reader may return nothing and no error.
const maxEmptyReads = 100

// outgoingDatabase is the application's reader, held to its size.
type outgoingDatabase struct {
	exactReader
	size   int64
	file   *os.File    // the reader, where it is a regular file
	info   os.FileInfo // of file, when the transfer began
	seeker io.Seeker   // the reader, where it can go back; nil if not
	base   int64       // where the database begins, as seeker counts

	reading atomic.Bool // a call of the application's reader is under way
}

func newOutgoingDatabase(r io.Reader, size int64) *outgoingDatabase {
	d := &outgoingDatabase{exactReader: exactReader{r: r, left: size}, size: size}
	defer func() {
		if recover() != nil { // in a method of the reader: then it can do no more than Read
			d.file, d.seeker = nil, nil
		}
	}()
	if f := fileOf(r); f != nil {
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			d.file, d.info, d.r = f, info, f
		}
	}
	seeker, ok := d.r.(io.Seeker)
	if !ok {
		return d
	}
	if at, err := seeker.Seek(0, io.SeekCurrent); err == nil && at >= 0 {
		d.seeker, d.base = seeker, at
	} else {
		d.file = nil
	}
	return d
}

// fileOf returns the file that r is. A reader that has a file may make something else of
// it, so it does not do to ask.
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
func (d *outgoingDatabase) at() int64 { return d.size - d.left }

// seek goes to an offset of the database.
func (d *outgoingDatabase) seek(offset int64) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%w: panic in Seek: %v", ErrSnapshotReader, v)
		}
	}()
	if d.at() == offset {
		return nil
	}
	if d.seeker == nil {
		return fmt.Errorf("%w: it cannot go back", ErrSnapshotReader)
	}
	d.reading.Store(true)
	defer d.reading.Store(false)
	if _, err := d.seeker.Seek(d.base+offset, io.SeekStart); err != nil {
		return fmt.Errorf("%w: %w", ErrSnapshotReader, err)
	}
	d.left = d.size - offset
	return nil
}

// Read implements io.Reader, as exactReader does. The last bytes of a file that has
// changed are not given.
func (d *outgoingDatabase) Read(p []byte) (int, error) {
	d.reading.Store(true)
	defer d.reading.Store(false)
	n, err := d.exactReader.Read(p)
	if errors.Is(err, io.EOF) {
		if err := d.unchanged(); err != nil {
			return 0, err
		}
	}
	return n, err
}

// unchanged returns an error if the reader is a file that is not what it was when the
// transfer began.
func (d *outgoingDatabase) unchanged() error {
	if d.file == nil {
		return nil
	}
	now, err := d.file.Stat()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSnapshotReader, err)
	}
	if was := d.info; now.Size() != was.Size() || !now.ModTime().Equal(was.ModTime()) || !os.SameFile(now, was) {
		return fmt.Errorf("%w: %d bytes of %v, then %d bytes of %v", ErrSnapshotChanged,
			was.Size(), was.ModTime(), now.Size(), now.ModTime())
	}
	return nil
}

// begin is that of exactReader.
func (d *outgoingDatabase) begin() error {
	d.reading.Store(true)
	defer d.reading.Store(false)
	return d.exactReader.begin()
}

// exactReader reads exactly left bytes from r. Its errors are those of r, marked
// with ErrSnapshotReader, and ErrSnapshotSize; a panic of r is an error.
type exactReader struct {
	r    io.Reader // nil: empty
	left int64
}

// begin checks what would go unnoticed by Read: a negative size, and data where
// none was declared.
func (e *exactReader) begin() error {
	if e.left < 0 {
		return fmt.Errorf("%w: it is declared as %d bytes", ErrSnapshotSize, e.left)
	}
	if e.left == 0 {
		if err := e.end(); !errors.Is(err, io.EOF) {
			return err
		}
	}
	return nil
}

// Read implements io.Reader. It returns the last bytes only once r has shown its
// end, together with io.EOF.
func (e *exactReader) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, e.end()
	}
	n, err := readSome(e.r, p[:min(int64(len(p)), e.left)])
	e.left -= int64(n)
	if e.left == 0 {
		if err := e.end(); !errors.Is(err, io.EOF) {
			return 0, err // the bytes in p are held back
		}
		return n, io.EOF
	}
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: it ended %d bytes early", ErrSnapshotShort, e.left)
	} else if err != nil {
		err = fmt.Errorf("%w: %w", ErrSnapshotReader, err)
	}
	return n, err
}

// end returns io.EOF if r is at its end.
func (e *exactReader) end() error {
	var one [1]byte
	n, err := readSome(e.r, one[:])
	switch {
	case n > 0:
		return fmt.Errorf("%w: it goes on behind its end", ErrSnapshotLong)
	case errors.Is(err, io.EOF):
		return io.EOF
	default:
		return fmt.Errorf("%w: %w", ErrSnapshotReader, err)
	}
}

// readSome reads at least one byte, or returns an error: the one of r, or one
// that says what r did wrong.
func readSome(r io.Reader, p []byte) (int, error) {
	if r == nil {
		return 0, io.EOF
	}
	for range maxEmptyReads {
		n, err := safeRead(r, p)
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
