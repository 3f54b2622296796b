package wire

import (
	"errors"
	"io"
)

// Sizes of a Reader's buffer, in bytes.
const (
	stepSize  = 4  // a buffer grows and shrinks by this factor
	calmReads = 16 // small reads in a row after which it shrinks

	maxEmptyReads = 100
)

// Reader is the buffered source of a Decoder. Its buffer is small while few bytes
// arrive, grows to 256 KiB while reads fill it, and shrinks again. Large data is
// read past it, directly to its final place.
type Reader struct {
	src  io.Reader
	buf  []byte
	r, w int   // buf[r:w] was read and is not yet consumed
	err  error // arrived with the last bytes, and is returned after them
	want int   // size that the buffer should have when it is empty
	calm int   // reads in a row that used little of the buffer
	past bool  // large data was last read past the buffer
	most int   // largest size of the buffer
	kept bool  // messages refer to bytes of buf: nothing in it is overwritten

	read uint64 // bytes from the source
}

// NewReader returns a Reader of r. It allocates its buffer with the first read.
func NewReader(r io.Reader) *Reader { return &Reader{src: r, want: minBuffer, most: maxBuffer} }

// Buffered returns how many bytes have been read from the source and not yet
// consumed.
func (r *Reader) Buffered() int { return r.w - r.r }

// Read reads buffered bytes, and then from the source without buffering.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if r.r < r.w {
		n := copy(p, r.buf[r.r:r.w])
		r.r += n
		return n, nil
	}
	if r.err != nil {
		return 0, r.takeErr()
	}
	r.past = len(p) >= pastBuffer
	n, err := r.src.Read(p)
	r.read += uint64(max(n, 0))
	return n, err
}

// offset returns the number of bytes consumed.
func (r *Reader) offset() uint64 { return r.read - uint64(r.Buffered()) }

// skip consumes n bytes.
func (r *Reader) skip(n uint64) error {
	for n > 0 {
		if _, err := r.peek(1); err != nil {
			return err
		}
		some := min(n, uint64(r.Buffered()))
		r.discard(int(some))
		n -= some
	}
	return nil
}

func (r *Reader) takeErr() error {
	err := r.err
	r.err = nil
	return err
}

// peek returns the next n bytes, at most maxBuffer, without consuming them.
// They stay valid until the next read. io.EOF means that none arrived,
// io.ErrUnexpectedEOF that some did.
func (r *Reader) peek(n int) ([]byte, error) {
	if r.w-r.r >= n {
		return r.buf[r.r : r.r+n], nil
	}
	return r.await(n)
}

// await is peek for bytes that have not all arrived yet.
func (r *Reader) await(n int) ([]byte, error) {
	for r.w-r.r < n {
		if r.err != nil {
			err := r.takeErr()
			if err == io.EOF && r.w > r.r {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		r.makeRoom(n)
		r.fill()
	}
	return r.buf[r.r : r.r+n], nil
}

// discard consumes n buffered bytes.
func (r *Reader) discard(n int) { r.r += n }

// makeRoom gives the buffer a size that fits the traffic and holds n bytes, and moves
// its content to the start if the n bytes would not fit after it.
func (r *Reader) makeRoom(n int) {
	if r.kept {
		if len(r.buf)-r.r < n || len(r.buf)-r.w < minBuffer {
			r.replace(n)
		}
		return
	}
	empty := r.r == r.w
	if empty {
		r.r, r.w = 0, 0
	}
	size := len(r.buf)
	if want := min(r.want, r.most); want > size || empty {
		size = want
	}
	for size < n {
		size *= stepSize
	}
	switch {
	case size != len(r.buf):
		buf := make([]byte, size)
		r.w = copy(buf, r.buf[r.r:r.w])
		r.r, r.buf = 0, buf
	case len(r.buf)-r.r < n || r.w == len(r.buf):
		r.w = copy(r.buf, r.buf[r.r:r.w])
		r.r = 0
	}
}

// replace leaves the buffer to the messages that refer to it.
func (r *Reader) replace(n int) {
	buf := make([]byte, max(min(r.want, r.most), n))
	r.w = copy(buf, r.buf[r.r:r.w])
	r.r, r.buf, r.kept = 0, buf, false
}

// fill reads once from the source into the free part of the buffer.
func (r *Reader) fill() {
	free := r.buf[r.w:]
	past := r.past
	if r.past = false; past {
		free = free[:min(len(free), minBuffer)]
	}
	room := len(free)
	for range maxEmptyReads {
		n, err := r.src.Read(free)
		if n < 0 || n > room {
			r.err = errors.New("wire: source returned an invalid count from Read")
			return
		}
		r.w += n
		r.read += uint64(n)
		r.err = err
		if n > 0 && !past {
			r.adapt(n, room)
		}
		if n > 0 || err != nil {
			return
		}
	}
	r.err = io.ErrNoProgress
}

// adapt adapts to a read of n bytes with this much room.
func (r *Reader) adapt(n, room int) {
	size := len(r.buf)
	switch {
	case n == room:
		r.calm = 0
		r.want = min(size*stepSize, maxBuffer)
	case n >= size/(2*stepSize):
		r.calm = 0
		r.want = size
	default:
		if r.calm++; r.calm >= calmReads {
			r.calm = 0
			r.want = max(size/stepSize, minBuffer)
		}
	}
}

// inside converts io.EOF to io.ErrUnexpectedEOF, for reads inside a frame.
func inside(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
