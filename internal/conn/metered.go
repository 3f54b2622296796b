package conn

import (
	"errors"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/socket"
)

// MaxPiece is the largest piece, in bytes, of Pieces for a connection that does not report partial writes.
const MaxPiece = 32 << 10

const (
	// minPiece is the smallest piece.
	minPiece = 512
	// quickPieces is how many pieces in a row must be quick before the next is larger: a buffer that fills says nothing
	// of the line after it. In the first 256 KiB pieces reach 4 KiB.
	quickPieces = 64
)

// DefaultTimeout is the timeout of stock members for a read or a write.
const DefaultTimeout = 5 * time.Second

// WriteTime is the most that one write may take, so that progress within a timeout is seen several times.
func WriteTime(timeout time.Duration) time.Duration { return timeout / 8 }

// Pieces adapts the size of a write to the bytes that the connection accepts in a small part of a timeout, so that a
// slow connection with progress is not considered dead. The zero value starts with the smallest size. It is not safe
// for concurrent use.
type Pieces struct {
	size  int
	quick int // full pieces in a row
}

// Next returns the size of the next write, at most most.
func (p *Pieces) Next(most int) int { return min(max(p.size, minPiece), most) }

// Took notes that a write of n bytes took d, on a connection whose writes fail after the timeout.
func (p *Pieces) Took(n int, d, timeout time.Duration) {
	size, part := max(p.size, minPiece), WriteTime(timeout)
	switch {
	case d > part:
		p.size, p.quick = max(minPiece, int(float64(n)*float64(part)/float64(d))), 0
	case n < size:
	case d > part/2: // twice as much may be too much
		p.quick = 0
	default:
		if p.quick++; p.quick >= quickPieces {
			p.size, p.quick = min(2*size, MaxPiece), 0
		}
	}
}

// PartialWrites reports whether a write to c that a deadline ends reports its progress, and can be continued.
func PartialWrites(c net.Conn) bool { return runtime.GOOS != "windows" && socket.Is(c) }

// Metered is a connection that counts accepted bytes during a write, also below TLS, where a write cannot be divided.
// It is for one Write at a time; all other methods may be called at the same time.
type Metered struct {
	net.Conn
	moved   *atomic.Int64 // counts its progress
	timeout time.Duration
	partial bool   // Conn has partial writes
	pieces  Pieces // if it has none

	mu       sync.Mutex
	deadline time.Time // of writes, as set by the user; zero: none
}

// NewMetered returns a connection over c that counts in moved. It counts several times in each timeout while there is progress.
func NewMetered(c net.Conn, moved *atomic.Int64, timeout time.Duration) *Metered {
	return &Metered{Conn: c, moved: moved, timeout: timeout, partial: PartialWrites(c)}
}

// CloseBelow returns the connection below, which is the only one to close.
func (m *Metered) CloseBelow() net.Conn { return m.Conn }

// SetDeadline implements net.Conn.
func (m *Metered) SetDeadline(t time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.deadline = t
	return m.Conn.SetDeadline(t)
}

// SetWriteDeadline implements net.Conn.
func (m *Metered) SetWriteDeadline(t time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.deadline = t
	return m.Conn.SetWriteDeadline(t)
}

// Write implements net.Conn.
func (m *Metered) Write(p []byte) (written int, err error) {
	write := m.writePiece
	if m.partial {
		write = m.writeStep
	}
	for first := true; first || err == nil && written < len(p); first = false {
		var n int
		n, err = write(p[written:])
		written += n
		if n > 0 {
			m.moved.Add(1)
		}
	}
	return written, err
}

// writePiece writes a part of p.
func (m *Metered) writePiece(p []byte) (int, error) {
	begun := time.Now()
	n, err := m.Conn.Write(p[:m.pieces.Next(len(p))])
	m.pieces.Took(n, time.Since(begun), min(m.timeout, DefaultTimeout))
	return n, err
}

// writeStep writes as much as possible within a part of the timeout, perhaps nothing.
func (m *Metered) writeStep(p []byte) (int, error) {
	over, err := m.extend(WriteTime(m.timeout))
	if err != nil {
		return 0, err
	}
	n, err := m.Conn.Write(p)
	if !over && errors.Is(err, os.ErrDeadlineExceeded) && !m.expired() {
		err = nil
	}
	return n, err
}

// extend sets a deadline for a step, but none after the user's. It reports whether it is the user's.
func (m *Metered) extend(step time.Duration) (over bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := time.Now().Add(step)
	if over = !m.deadline.IsZero() && m.deadline.Before(at); over {
		at = m.deadline
	}
	return over, m.Conn.SetWriteDeadline(at)
}

// expired reports whether the user's deadline has passed: it may have been changed during a write.
func (m *Metered) expired() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.deadline.IsZero() && !m.deadline.After(time.Now())
}
