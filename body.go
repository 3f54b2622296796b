package rafthttp

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/conn"
	"github.com/seed-4d73690b/rafthttp/internal/snapshot"
)

// body returns the request's body with a deadline for progress that also ends
// with the transport.
func (q *request) body() *progressReader {
	b := &progressReader{q: q, src: q.r.Body, setDeadline: q.rc.SetReadDeadline}
	interrupted := make(chan struct{})
	stop := context.AfterFunc(q.engine.ctx, func() {
		defer close(interrupted)
		b.interrupt()
	})
	b.release = func() {
		// A body that was not read to its end keeps the deadline: the server reads
		// on for a while, and sets its own for the next request.
		if !stop() {
			<-interrupted // the handler must not return while its response is in use
		}
	}
	return b
}

// progressReader reads a request's body; a Read that takes longer than the read
// timeout fails, as does one during Stop.
type progressReader struct {
	q       *request
	release func() // waits until the request is no longer in use

	mu          sync.Mutex // makes extend and interrupt exclude each other
	setDeadline func(time.Time) error

	started time.Time // when the minimum rate began; zero: there is none

	src   io.Reader
	bytes uint64 // read so far
	err   error  // what ended the body
}

func (b *progressReader) interrupt() {
	b.mu.Lock()
	defer b.mu.Unlock()
	_ = b.setDeadline(time.Now())
}

// extend sets the deadline for what is read next, and returns it. It reports whether
// that was possible.
func (b *progressReader) extend(d time.Duration) (at time.Time, bounded bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.q.engine.ctx.Err() != nil {
		return at, false, context.Cause(b.q.engine.ctx)
	}
	at = time.Now().Add(d)
	if !b.started.IsZero() {
		if end := b.started.Add(b.q.engine.cfg.postTimeout() + conn.TimeForBody(b.bytes)); end.Before(at) {
			at = end
		}
	}
	return at, !snapshot.IsBoundless(b.setDeadline(at)), nil
}

// Read implements io.Reader.
func (b *progressReader) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	at, bounded, err := b.extend(b.q.engine.cfg.readTimeout)
	if err != nil {
		b.err = err
		return 0, err
	}
	if b.q.r.ContentLength < 0 {
		p = p[:min(len(p), snapshot.ChunkedRead)]
	}
	var n int
	if bounded {
		n, err = b.src.Read(p)
	} else {
		n, err = snapshot.ReadWithin(b.q.engine.ctx, b.src, p, time.Until(at))
	}
	b.bytes += uint64(n)
	switch {
	case errors.Is(err, io.EOF):
		b.ended()
	case err != nil:
		// The server ends the request's context for any error, so that says nothing.
		err = causeOf(b.q.engine.ctx, err)
	}
	b.err = err
	return n, err
}

// ended takes the deadline away. From the end of the body on, the server reads
// ahead to see the client go, and takes a deadline for that.
func (b *progressReader) ended() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.q.engine.ctx.Err() == nil {
		_ = b.setDeadline(time.Time{})
	}
}
