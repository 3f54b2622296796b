package wire

import (
	"io"
	"net"

	"go.etcd.io/raft/v3/raftpb"
)

// RefThreshold is the size in bytes from which a Batch refers to entry,
// snapshot or context data where it is, instead of copying it.
const RefThreshold = 16 << 10

const (
	keepBuffer = 4 << 10 // bytes a batch keeps when it shrinks
	keepRefs   = 16      // references for which it keeps room
)

// Batch holds encoded frames for one write. The zero value is empty and ready.
//
// Small things are copied into one buffer. Data of RefThreshold and more is only
// referred to: it must not change until the batch is Reset. A Batch is not safe
// for concurrent use.
type Batch struct {
	buf      []byte
	refs     []ref
	refBytes int
	copyAll  bool // AppendMessage and its kin: there is only the buffer

	vec  net.Buffers // what one WriteTo writes, kept for its memory
	rest net.Buffers // the part of vec not yet written
}

// ref is data that belongs into the encoding before buf[at].
type ref struct {
	at   int
	data []byte
}

// Len returns the number of encoded bytes.
func (b *Batch) Len() int { return len(b.buf) + b.refBytes }

// Reset forgets contents and references, and keeps the buffer.
func (b *Batch) Reset() {
	b.buf = b.buf[:0]
	clear(b.refs)
	b.refs = b.refs[:0]
	b.refBytes = 0
	b.dropVec()
}

// Shrink is Reset, and gives the buffer back if it has grown beyond a few
// KiB: a batch that waits for traffic should not hold the memory of the last
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
}

// AppendMessage appends m as bare protobuf, without any framing.
func (b *Batch) AppendMessage(m *raftpb.Message) { b.message(m) }

// WriteTo writes the batch: in one Write if it holds no references, else by
// net.Buffers, which is one writev on a TCP or Unix connection and one Write
// for each piece on anything else. It returns the number of bytes written and
// the error of w. It does not allocate once the batch has seen its largest
// load. It may be called once for each Reset.
func (b *Batch) WriteTo(w io.Writer) (int64, error) {
	if len(b.refs) == 0 {
		if len(b.buf) == 0 {
			return 0, nil
		}
		n, err := w.Write(b.buf)
		if err == nil && n < len(b.buf) {
			err = io.ErrShortWrite
		}
		return int64(n), err
	}
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
	b.rest = b.vec
	n, err := b.rest.WriteTo(w)
	if err == nil && n < int64(b.Len()) {
		err = io.ErrShortWrite
	}
	b.dropVec()
	return n, err
}

func (b *Batch) dropVec() {
	clear(b.vec)
	b.vec, b.rest = b.vec[:0], nil
}

// data appends p, by reference where it is large.
func (b *Batch) data(p []byte) {
	if len(p) < RefThreshold || b.copyAll {
		b.buf = append(b.buf, p...)
		return
	}
	b.refs = append(b.refs, ref{at: len(b.buf), data: p})
	b.refBytes += len(p)
}
