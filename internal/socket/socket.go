// Package socket describes connections that are sockets: those of package net, and those of other types that have
// the methods of its interfaces.
//
// The interfaces differ from those of *net.TCPConn on purpose. A type that embeds one, and counts, limits or encrypts
// writes, has all of its methods, and those would bypass its own.
package socket

import (
	"io"
	"net"
	"os"
	"time"
)

// BuffersWriter is a socket that writes several buffers at once. WriteBuffers removes written bytes from v, also
// if a deadline ends it: then the next write continues after them. Its Close does not wait.
type BuffersWriter interface {
	WriteBuffers(v *net.Buffers) (int64, error)
}

// FileSender is a socket that the kernel can move files to, and that it can move to files, without a copy in memory of
// the process. SendFile sends the next n bytes of f, or those up to its end, and returns their number. After an error f
// may have been read further.
type FileSender interface {
	SendFile(f *os.File, n int64) (int64, error)
}

// UserTimeouter is a socket that fails after bytes have stayed unacknowledged for so long.
type UserTimeouter interface {
	SetUserTimeout(d time.Duration) error
}

// Is reports whether c is a socket: a Write that a deadline ends reports its progress, and can be continued, and Close
// does not wait. On Windows, the former does not hold for those of package net.
func Is(c net.Conn) bool {
	switch c.(type) {
	case *net.TCPConn, *net.UnixConn, BuffersWriter:
		return true
	}
	return false
}

// Buffers returns c as a BuffersWriter, or nil.
func Buffers(c net.Conn) BuffersWriter {
	switch c := c.(type) {
	case *net.TCPConn:
		return writev{c}
	case *net.UnixConn:
		return writev{c}
	case BuffersWriter:
		return c
	}
	return nil
}

// Files returns c as a FileSender, or nil.
func Files(c net.Conn) FileSender {
	switch c := c.(type) {
	case *net.TCPConn:
		return sendfile{c}
	case FileSender:
		return c
	}
	return nil
}

// writev is a connection that net.Buffers supports.
type writev struct{ io.Writer }

// WriteBuffers implements BuffersWriter.
func (w writev) WriteBuffers(v *net.Buffers) (int64, error) { return v.WriteTo(w.Writer) }

// sendfile is a connection whose ReadFrom supports files.
type sendfile struct{ *net.TCPConn }

// SendFile implements FileSender.
func (c sendfile) SendFile(f *os.File, n int64) (int64, error) {
	return c.ReadFrom(&io.LimitedReader{R: f, N: n})
}

// SendState is how far what was written to a connection has got.
type SendState struct {
	Acked   int64 // bytes that the other end's system has acknowledged, of all that were written
	Unacked int64 // bytes that it has not, those that were not sent included
	Unsent  int64 // of these, bytes that were not sent
	// Shut says that bytes are unsent, and all others acknowledged: the other end does not read, and its buffer is full.
	Shut bool

	// Where the system knows them; 0: it does not.
	RTT, MinRTT time.Duration // smoothed, and the least of the last minutes
	Retransmits uint64        // segments that were sent again
	Window      int64         // bytes that the other end takes without an acknowledgement
}

// SendStater is a socket that tells how far what was written has got: bytes that were acknowledged, that were not, and, of
// these, that were not sent.
type SendStater interface {
	SendState() (acked, unacked, unsent int64)
}
