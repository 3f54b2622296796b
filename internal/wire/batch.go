package wire

import (
	"io"
	"net"
)

// RefThreshold is the size in bytes from which a Batch references entry,
// snapshot or context data, instead of copying it.
const RefThreshold = 16 << 10

const (
	keepRefs = 16 // references for which it keeps room
)

// Batch holds encoded frames for one write. The zero value is empty and ready.
//
// Small data is copied into one buffer. Data of RefThreshold and more is only
// referenced: it must not change until the batch is Reset. A Batch is not safe
// for concurrent use.
type Batch struct {
	buf      []byte
	refs     []ref
	refBytes int
	copyAll  bool // AppendMessage: only the buffer is used

	vec  net.Buffers // the pieces of one WriteTo, kept for its memory
	rest net.Buffers // the part of vec not yet written
	join []byte      // joins small pieces, of joinBytes; nil until needed
}

// ref is data that belongs before buf[at] in the encoding.
type ref struct {
	at   int
	data []byte
}

// Len returns the number of encoded bytes.
func (b *Batch) Len() int { return len(b.buf) + b.refBytes }

// Reset clears contents and references, and keeps the buffer.
func (b *Batch) Reset() {
	b.buf = b.buf[:0]
	clear(b.refs)
	b.refs = b.refs[:0]
	b.refBytes = 0
	b.dropVec()
}

// Shrink is Reset, and releases the buffer if it has grown beyond a few
// KiB: an idle batch should not hold the memory of the last
// burst.
func (b *Batch) Shrink() {
	b.Reset()
	if cap(b.buf) > keepBuffer {
		b.buf = nil
	}
	if cap(b.refs) > keepRefs {
		b.refs = nil
		b.vec = nil
	}
	b.join = nil
}

// BuffersWriter is a writer that takes pieces without copying them together, like
// writev.
type BuffersWriter interface {
	io.Writer
	// WriteBuffers writes all of v, or returns an error. It removes written bytes
	// from v.
	WriteBuffers(v *net.Buffers) (int64, error)
}

// WriteTo writes the batch: in one Write if it holds no references, by WriteBuffers if
// it does and w is a BuffersWriter, and in writes of 64 KiB and more,
// as far as there is so much, if w is anything else, such as a TLS connection. It
// returns the number of bytes written and the error of w. It does not allocate once the
// batch has had its largest load. It may be called once per Reset.
func (b *Batch) WriteTo(w io.Writer) (int64, error) {
	if len(b.refs) == 0 {
		if len(b.buf) == 0 {
			return 0, nil
		}
		return write(w, b.buf)
	}
	b.fillVec()
	defer b.dropVec()
	if w, ok := w.(BuffersWriter); ok {
		b.rest = b.vec
		return w.WriteBuffers(&b.rest)
	}
	return b.writeJoined(w)
}

// fillVec collects the pieces of the batch in order.
func (b *Batch) fillVec() {
	at := 0
	for _, r := range b.refs {
		if r.at > at {
			b.vec = append(b.vec, b.buf[at:r.at])
			at = r.at
		}
		b.vec = append(b.vec, r.data)
	}
	if at < len(b.buf) {
		b.vec = append(b.vec, b.buf[at:])
	}
}

// writeJoined writes the pieces without a separate write for each small one: on a TLS
// connection that would be a separate record and system call.
func (b *Batch) writeJoined(w io.Writer) (written int64, err error) {
	if b.join == nil {
		b.join = make([]byte, 0, joinBytes)
	}
	join := b.join
	put := func(p []byte) {
		var n int64
		if err == nil {
			n, err = write(w, p)
			written += n
		}
	}
	for _, p := range b.vec {
		if len(join) > 0 {
			n := min(len(p), joinBytes-len(join))
			join = append(join, p[:n]...)
			if p = p[n:]; len(join) < joinBytes {
				continue
			}
			put(join)
			join = join[:0]
		}
		if len(p) >= joinBytes {
			put(p)
		} else {
			join = append(join, p...)
		}
	}
	if len(join) > 0 {
		put(join)
	}
	return written, err
}

func write(w io.Writer, p []byte) (int64, error) {
	n, err := w.Write(p)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	return int64(n), err
}

func (b *Batch) dropVec() {
	clear(b.vec)
	b.vec, b.rest = b.vec[:0], nil
}

// data appends p to dst after its length, by reference if it is large.
func (b *Batch) data(dst, p []byte) []byte {
	dst = appendVarint(dst, uint64(len(p)))
	if len(p) < RefThreshold || b.copyAll {
		return append(dst, p...)
	}
	b.refs = append(b.refs, ref{at: len(dst), data: p})
	b.refBytes += len(p)
	return dst
}
