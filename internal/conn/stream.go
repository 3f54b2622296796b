package conn

import (
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/closeconn"
)

// Stream is a connection from which a client reads: a hijacked one, or a flushed response. It is
// closed once, and written by one goroutine at a time.
type Stream struct {
	paced *ProgressWriter
	out   io.Writer    // paced, or a wrapper that adds writev
	flush func() error // called after each write; nil: not needed
	end   func()       // closes the connection; does not block
	gauge *SendGauge   // nil: nothing is known

	once  sync.Once
	gone  chan struct{} // closed by Close
	using chan struct{} // has a value while a write is in progress; nil: not needed. Not a mutex, which stops time in a synctest bubble
}

// NewHijackedStream returns the stream on a hijacked connection, which is a *tls.Conn or the result of Release. Writes whose
// progress is unknown have a deadline for each piece of pieceBytes bytes. spawn runs a Close that may block.
func NewHijackedStream(c net.Conn, pieceBytes int, spawn func(func())) *Stream {
	s := &Stream{gone: make(chan struct{}), end: func() { closeconn.Close(c) }, gauge: NewSendGauge(c)}
	s.paced = NewProgressWriter(c, s.untilGone(c.SetWriteDeadline), pieceBytes)
	s.out = s.paced.Vectors(c)
	if !closeconn.IsQuick(c) {
		s.end = func() { spawn(func() { closeconn.Close(c) }) }
	}
	return s
}

// NewResponseStream returns the stream on a response that could not be hijacked. The handler must close the stream and call
// Quiesce before it returns.
func NewResponseStream(w http.ResponseWriter, pieceBytes int) *Stream {
	rc := http.NewResponseController(w)
	s := &Stream{gone: make(chan struct{}), using: make(chan struct{}, 1), flush: rc.Flush, end: func() {}}
	s.paced = NewProgressWriter(w, s.untilGone(rc.SetWriteDeadline), pieceBytes)
	s.out = s.paced
	return s
}

// untilGone returns set, except that the deadline of Close stays once the stream is closed.
func (s *Stream) untilGone(set func(time.Time) error) func(time.Time) error {
	return func(t time.Time) error {
		if err := set(t); err != nil || !s.IsGone() {
			return err
		}
		_ = set(time.Now()) // Close may have been called before
		return net.ErrClosed
	}
}

// Gone returns a channel that Close closes.
func (s *Stream) Gone() <-chan struct{} { return s.gone }

// IsGone reports whether the stream was closed.
func (s *Stream) IsGone() bool {
	select {
	case <-s.gone:
		return true
	default:
		return false
	}
}

// Close ends the stream, and a write in progress. It does not block. It may be called at any time, from any goroutine,
// repeatedly.
func (s *Stream) Close() {
	s.once.Do(func() {
		close(s.gone)
		// A write in progress ends now: the other end may have stopped reading.
		_ = s.paced.Limit(time.Now())
		s.end()
	})
}

// Write writes b, with the timeout for each piece of it: a slow connection stays open while it makes progress.
func (s *Stream) Write(b io.WriterTo, timeout time.Duration) error {
	if s.using != nil {
		s.using <- struct{}{}
		defer func() { <-s.using }()
	}
	if s.IsGone() {
		return net.ErrClosed
	}
	s.paced.Begin(timeout)
	if _, err := b.WriteTo(s.out); err != nil {
		return err
	}
	if s.flush == nil {
		return nil
	}
	if err := s.flush(); err != nil {
		return err
	}
	_ = s.paced.Limit(time.Time{}) // in HTTP/2, one that passes ends the stream
	return nil
}

// Quiesce waits for the end of a write in progress to a response. After Close no other starts.
func (s *Stream) Quiesce() {
	s.using <- struct{}{}
	defer func() { <-s.using }()
}

// canFlush reports whether a response can be flushed, without doing it, as
// http.ResponseController finds out.
func canFlush(w http.ResponseWriter) bool {
	for {
		switch t := w.(type) {
		case interface{ FlushError() error }, http.Flusher:
			return true
		case interface{ Unwrap() http.ResponseWriter }:
			w = t.Unwrap()
		default:
			return false
		}
	}
}
