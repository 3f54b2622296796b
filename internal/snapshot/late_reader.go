package snapshot

import (
	"fmt"
	"io"
	"os"
	"sync"
)

// lateReader is the ReadCloser of a snap.Message with a function that opens it, perhaps again. It has each reader closed exactly once,
// whether the transfer ends before or after it is open.
type lateReader struct {
	open func() (io.ReadCloser, error)

	mu     sync.Mutex
	closed bool
	opened io.ReadCloser // nil: not open, or there is no database
}

// get opens the reader and returns it; nil: there is no database.
func (l *lateReader) get() (io.Reader, error) {
	if l.isClosed() {
		return nil, errReaderClosed
	}
	r, err := safeOpen(l.open)
	if !l.keep(r, err) {
		closeQuietly(r)
		if err == nil {
			err = errReaderClosed
		}
	}
	if err != nil || r == nil {
		return nil, err
	}
	return r, nil
}

// shut closes the reader, so that it can be opened again.
func (l *lateReader) shut() {
	l.mu.Lock()
	r := l.opened
	l.opened = nil
	l.mu.Unlock()
	closeQuietly(r)
}

func (l *lateReader) isClosed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

// keep leaves closing r to Close, unless that was called, or r was not opened.
func (l *lateReader) keep(r io.ReadCloser, err error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || err != nil {
		return false
	}
	l.opened = r
	return true
}

// Read implements io.Reader. It is not called: the transfer reads what get returns.
func (l *lateReader) Read([]byte) (int, error) { return 0, errReaderClosed }

// Close implements io.Closer. It closes the reader if it is open.
func (l *lateReader) Close() error {
	l.mu.Lock()
	r := l.opened
	l.closed, l.opened = true, nil
	l.mu.Unlock()
	if r == nil {
		return nil
	}
	return r.Close()
}

// safeOpen calls open. Its errors, and a panic, are failures of the reader.
func safeOpen(open func() (io.ReadCloser, error)) (r io.ReadCloser, err error) {
	defer func() {
		if v := recover(); v != nil {
			r, err = nil, fmt.Errorf("%w: panic in Open: %v", ErrReader, v)
		}
	}()
	if r, err = open(); err != nil {
		err = fmt.Errorf("%w: it was not opened: %w", ErrReader, err)
	}
	if f, ok := r.(*os.File); ok && f == nil { // as os.Open returns it with an error
		r = nil
	}
	return r, err
}

// closeQuietly closes r, which may be nil. Closing is not part of sending: errors and panics are ignored.
func closeQuietly(r io.ReadCloser) {
	defer func() { _ = recover() }()
	if r != nil {
		_ = r.Close()
	}
}
