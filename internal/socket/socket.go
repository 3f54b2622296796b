// Package socket says what connections can do that are sockets: those of package net, and those of other types that have
// the methods of its interfaces.
//
// The interfaces are not those of *net.TCPConn on purpose. A type that embeds one, and counts, limits or encrypts what is
// written, has all of its methods, and those would go past what it does.
package socket

import (
	"io"
	"net"
	"os"
	"time"
)

// BuffersWriter is a socket that writes several buffers at once. WriteBuffers takes out of v what it has written, also
// where a deadline ends it: then the next write goes on behind that. Its Close does not wait.
type BuffersWriter interface {
	WriteBuffers(v *net.Buffers) (int64, error)
}

// FileSender is a socket that files can be moved to, and that can be moved to files, without a copy in memory of ours.
// SendFile sends the next n bytes of f, or those up to its end, and returns how many that were. After an error f may have
// been read further.
type FileSender interface {
	SendFile(f *os.File, n int64) (int64, error)
}

// UserTimeouter is a socket that fails once bytes have waited so long to be acknowledged.
type UserTimeouter interface {
	SetUserTimeout(d time.Duration) error
}

// Is reports whether c is a socket: a Write that a deadline ends tells how far it got, and can be continued, and Close does
// not wait. On Windows, the former is not so for those of package net.
func Is(c net.Conn) bool {
	switch c.(type) {
	case *net.TCPConn, *net.UnixConn, BuffersWriter:
		return true
	}
	return false
}

// Buffers returns c as one that writes several buffers at once, or nil.
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

// Files returns c as one that files can be moved to and from, or nil.
func Files(c net.Conn) FileSender {
	switch c := c.(type) {
	case *net.TCPConn:
		return sendfile{c}
	case FileSender:
		return c
	}
	return nil
}

// writev is a connection that net.Buffers knows.
type writev struct{ io.Writer }

// WriteBuffers implements BuffersWriter.
func (w writev) WriteBuffers(v *net.Buffers) (int64, error) { return v.WriteTo(w.Writer) }

// sendfile is a connection whose ReadFrom knows files.
type sendfile struct{ *net.TCPConn }

// SendFile implements FileSender.
func (c sendfile) SendFile(f *os.File, n int64) (int64, error) {
	return c.ReadFrom(&io.LimitedReader{R: f, N: n})
}
