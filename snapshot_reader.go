package rafthttp

import (
	"errors"
	"fmt"
	"io"
)

// errSnapshotReader marks errors of the application's reader.
var errSnapshotReader = errors.New("reader of the snapshot failed")

// isReaderFailure reports whether a transfer failed by its reader alone.
func isReaderFailure(err error) bool {
	return errors.Is(err, errSnapshotReader) || errors.Is(err, ErrSnapshotSize)
}

// maxEmptyReads is how often in a row a reader may return nothing and no error.
const maxEmptyReads = 100

// exactReader reads exactly left bytes from r. Its errors are those of r, marked
// with errSnapshotReader, and ErrSnapshotSize; a panic of r is an error.
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
		err = fmt.Errorf("%w: it ended %d bytes early", ErrSnapshotSize, e.left)
	} else if err != nil {
		err = fmt.Errorf("%w: %w", errSnapshotReader, err)
	}
	return n, err
}

// end returns io.EOF if r is at its end.
func (e *exactReader) end() error {
	var one [1]byte
	n, err := readSome(e.r, one[:])
	switch {
	case n > 0:
		return fmt.Errorf("%w: it goes on behind its end", ErrSnapshotSize)
	case errors.Is(err, io.EOF):
		return io.EOF
	default:
		return fmt.Errorf("%w: %w", errSnapshotReader, err)
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
