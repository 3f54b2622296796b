package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
)

// body reads the body of a request; a Read that takes longer than the timeout fails, as does one after ctx has ended.
type body struct {
	ctx     context.Context
	timeout time.Duration
	release func() // waits until the request is no longer in use

	reads    context.Context // of Reads without a deadline; ends with ctx and by cut
	endReads context.CancelCauseFunc

	mu          sync.Mutex // makes extend, interrupt and replace exclude each other
	setDeadline func(time.Time) error
	isCut       bool

	src    io.Reader
	length int64 // below 0: not declared
	read   int64 // so far
	err    error // what ended the body
}

func newBody(ctx context.Context, in Incoming, timeout time.Duration) *body {
	b := &body{ctx: ctx, timeout: timeout, setDeadline: in.SetReadDeadline}
	b.reads, b.endReads = context.WithCancelCause(ctx)
	b.src, b.length = in.Body()
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		b.interrupt()
	})
	b.release = func() {
		b.endReads(nil)
		// A body that was not read to its end keeps the deadline: the server reads on for a while, and sets its own for the
		// next request.
		if !stop() {
			<-interrupted // the handler must not return while its response is in use
		}
		b.replace(nil, func(time.Time) error { return nil })
	}
	return b
}

func (b *body) interrupt() {
	b.mu.Lock()
	defer b.mu.Unlock()
	_ = b.setDeadline(time.Now())
}

// cut ends the body as if its connection broke. It may be called at any time.
func (b *body) cut() {
	b.mu.Lock()
	b.isCut = true
	b.mu.Unlock()
	b.interrupt()
	b.endReads(protocol.ErrSnapshotCut)
}

func (b *body) wasCut() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.isCut
}

// replace has the rest of the body come from src.
func (b *body) replace(src io.Reader, setDeadline func(time.Time) error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.src, b.setDeadline = src, setDeadline
}

// extend sets the deadline for what is read next. It reports whether that is possible.
func (b *body) extend(d time.Duration) (bounded bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ctx.Err() != nil {
		return false, context.Cause(b.ctx)
	}
	if b.isCut {
		return false, protocol.ErrSnapshotCut
	}
	return !IsBoundless(b.setDeadline(time.Now().Add(d))), nil
}

// IsBoundless reports whether an error of setting a deadline says that there are none: something wraps the response of the
// server and hides them.
func IsBoundless(err error) bool { return errors.Is(err, errors.ErrUnsupported) }

// ReadWithin is a Read of src that is given up after d, or with ctx, where no deadline can be set. Then src must not be read
// again: the Read goes on, left to itself, until the connection ends.
func ReadWithin(ctx context.Context, src io.Reader, p []byte, d time.Duration) (int, error) {
	type result struct {
		n   int
		err error
	}
	buf, got := make([]byte, min(len(p), maxBoundlessRead)), make(chan result, 1)
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

// ChunkedRead is the most that is read at once, with one deadline, of a body in chunks: net/http goes on to the next chunk
// for as long as there is room for it, and waits for all of each.
const ChunkedRead = 16 << 10

// maxBoundlessRead is how much ReadWithin reads at once.
const maxBoundlessRead = 32 << 10

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	bounded, err := b.extend(b.timeout)
	if err != nil {
		b.err = err
		return 0, err
	}
	if b.length < 0 {
		p = p[:min(len(p), ChunkedRead)]
	}
	var n int
	if bounded {
		n, err = b.src.Read(p)
	} else {
		n, err = ReadWithin(b.reads, b.src, p, b.timeout)
	}
	b.read += int64(n)
	switch {
	case errors.Is(err, io.EOF):
		b.ended()
	case err != nil:
		// The server ends the request's context for any error, so that says nothing.
		if err = causeOf(b.ctx, err); b.wasCut() {
			err = protocol.ErrSnapshotCut
		}
	}
	b.err = err
	return n, err
}

// causeOf returns why ctx ended, or that nothing moved, in place of an error that only says that an operation was ended.
func causeOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return fmt.Errorf("%w: %w", errs.ErrStalled, err)
	}
	return err
}

// broke says that a connection is at fault, unless err says more.
func (b *body) broke(err error) error {
	stopped := context.Cause(b.ctx)
	if !errors.Is(err, errs.ErrStalled) && !errors.Is(err, protocol.ErrSnapshotCut) && (stopped == nil || !errors.Is(err, stopped)) {
		err = fmt.Errorf("%w: %w", protocol.ErrSnapshotCut, err)
	}
	return err
}

// ended takes the deadline away. From the end of the body on, the server reads ahead to see the client go, and takes a
// deadline for that.
func (b *body) ended() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ctx.Err() == nil {
		_ = b.setDeadline(time.Time{})
	}
}

// rawBody is the rest of a body whose length was declared, on a connection that was taken over.
type rawBody struct {
	conn       net.Conn
	prefetched []byte // comes before what conn brings
	remaining  int64
}

// Read implements io.Reader.
func (b *rawBody) Read(p []byte) (n int, err error) {
	if b.remaining <= 0 {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), b.remaining)]
	if len(b.prefetched) > 0 {
		n = copy(p, b.prefetched)
		b.prefetched = b.prefetched[n:]
	} else {
		n, err = b.conn.Read(p)
	}
	b.remaining -= int64(n)
	if errors.Is(err, io.EOF) && b.remaining > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
