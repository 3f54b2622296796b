package conn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/errs"
)

// RequestBody reads the body of a request that a server has accepted. A Read that takes longer than the timeout fails, as does
// one after the context has ended, or after Cut. Cut may be called at any time, and is safe for concurrent use; the other
// methods are for one goroutine at a time. The handler must call Release before it returns.
type RequestBody struct {
	ctx         context.Context
	timeout     time.Duration
	stop        func() bool   // stops interrupting with ctx
	interrupted chan struct{} // closed once ctx has interrupted the body

	transient bool // deadlines are removed after each Read

	mu          sync.Mutex // guards the next three, and setting a deadline
	setDeadline func(time.Time) error
	cut         error                   // of Cut
	endRead     context.CancelCauseFunc // of a Read without a deadline; nil: none

	started time.Time     // when the minimum rate began; zero: none
	slack   time.Duration // additional time

	src    io.Reader
	length int64 // below 0: not declared
	read   int64 // so far
	err    error // what ended the body
}

// NewRequestBody returns a reader of a body of length bytes; below 0: not declared. setReadDeadline sets the deadlines
// of the connection. It may be called from another goroutine when ctx ends.
func NewRequestBody(ctx context.Context, body io.Reader, length int64, timeout time.Duration, setReadDeadline func(time.Time) error) *RequestBody {
	b := &RequestBody{ctx: ctx, timeout: timeout, interrupted: make(chan struct{}), setDeadline: setReadDeadline, src: body, length: length}
	b.stop = context.AfterFunc(ctx, func() {
		defer close(b.interrupted)
		b.interrupt()
	})
	return b
}

// RemoveDeadlines has the deadline removed after each Read. It is for HTTP/2, where a deadline that passes while nothing is
// read ends the body, though the reader is to blame.
func (b *RequestBody) RemoveDeadlines() { b.transient = true }

// RequireRate gives the body a minimum rate from now on: it may take at most slack and TimeForBody together.
func (b *RequestBody) RequireRate(slack time.Duration) { b.started, b.slack = time.Now(), slack }

// Length returns the declared length; below 0: none.
func (b *RequestBody) Length() int64 { return b.length }

// BytesRead returns how many bytes were read so far.
func (b *RequestBody) BytesRead() int64 { return b.read }

// Err returns what ended the body, or nil.
func (b *RequestBody) Err() error { return b.err }

// Stopped returns the cause of the end of the context, or nil.
func (b *RequestBody) Stopped() error { return context.Cause(b.ctx) }

// Release waits until nothing of the request is in use. After it, the body must not be read.
func (b *RequestBody) Release() {
	b.mu.Lock()
	if b.endRead != nil {
		b.endRead(nil)
	}
	b.mu.Unlock()
	// A body that was not read to its end keeps the deadline: the server reads on for a while, and sets another one for
	// the next request.
	if !b.stop() {
		<-b.interrupted // the handler must not return while its response is in use
	}
	b.Replace(nil, func(time.Time) error { return nil })
}

// Replace makes src the source of the rest of the body.
func (b *RequestBody) Replace(src io.Reader, setReadDeadline func(time.Time) error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.src, b.setDeadline = src, setReadDeadline
}

func (b *RequestBody) interrupt() {
	b.mu.Lock()
	defer b.mu.Unlock()
	_ = b.setDeadline(time.Now())
}

// Cut ends the body with an error, as if its connection broke.
func (b *RequestBody) Cut(cause error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cut = cause
	_ = b.setDeadline(time.Now())
	if b.endRead != nil {
		b.endRead(cause)
	}
}

func (b *RequestBody) wasCut() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.cut
}

// Extend sets the deadline for further bytes without a Read. It fails if the body was ended.
func (b *RequestBody) Extend(d time.Duration) error {
	_, _, err := b.extend(d)
	return err
}

// extend sets the deadline for the next read, and returns it. It reports whether that was possible.
func (b *RequestBody) extend(d time.Duration) (at time.Time, bounded bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ctx.Err() != nil {
		return at, false, context.Cause(b.ctx)
	}
	if b.cut != nil {
		return at, false, b.cut
	}
	at = time.Now().Add(d)
	if !b.started.IsZero() {
		if end := b.started.Add(b.slack + TimeForBody(uint64(b.read))); end.Before(at) {
			at = end
		}
	}
	// A wrapper of the server's response may hide its deadlines, or know none.
	return at, b.setDeadline(at) == nil, nil
}

// chunkedRead is the most that one Read with one deadline reads of a chunked body: net/http continues with the next
// chunk while there is room for it, and waits for all of each.
const chunkedRead = 16 << 10

// Read implements io.Reader.
func (b *RequestBody) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	at, bounded, err := b.extend(b.timeout)
	if err != nil {
		b.err = err
		return 0, err
	}
	if b.length < 0 {
		p = p[:min(len(p), chunkedRead)]
	}
	var n int
	if bounded {
		n, err = b.src.Read(p)
	} else {
		n, err = b.readUnbounded(p, time.Until(at))
	}
	b.read += int64(n)
	switch {
	case errors.Is(err, io.EOF):
		b.removeDeadline()
	case err != nil:
		err = b.causeOf(err)
	case b.transient:
		b.removeDeadline()
	}
	b.err = err
	return n, err
}

// causeOf returns why the body was ended, or that no bytes moved, in place of an error that only says that a Read was
// ended. The server ends the request's context for any error, so that is no cause.
func (b *RequestBody) causeOf(err error) error {
	if cut := b.wasCut(); cut != nil {
		return cut
	}
	if cause := context.Cause(b.ctx); cause != nil {
		return cause
	}
	if IsTimeout(err) {
		return fmt.Errorf("%w: %w", errs.ErrStalled, err)
	}
	return err
}

// removeDeadline removes the deadline, except one that ends the body. After the end of the body, the server reads ahead to
// detect that the client disconnects, and mistakes a deadline for that.
func (b *RequestBody) removeDeadline() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ctx.Err() == nil {
		_ = b.setDeadline(time.Time{})
	}
}

// maxUnboundedRead is the size of one read without a deadline.
const maxUnboundedRead = 32 << 10

// readUnbounded is a Read that is abandoned after d, with the context, or by Cut, if no deadline can be set. Then the
// source is not read again: the abandoned Read continues until the connection ends.
func (b *RequestBody) readUnbounded(p []byte, d time.Duration) (int, error) {
	ctx, cancel := context.WithCancelCause(b.ctx)
	defer cancel(nil)
	b.mu.Lock()
	b.endRead = cancel
	if b.cut != nil {
		cancel(b.cut)
	}
	src := b.src
	b.mu.Unlock()
	type result struct {
		n   int
		err error
	}
	buf, got := make([]byte, min(len(p), maxUnboundedRead)), make(chan result, 1)
	go func() {
		n, err := src.Read(buf)
		got <- result{n, err}
	}()
	patience := time.NewTimer(d)
	defer patience.Stop()
	select {
	case r := <-got:
		return copy(p, buf[:max(r.n, 0)]), r.err
	case <-patience.C:
		return 0, os.ErrDeadlineExceeded
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}
