package conn

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// ChunkedReader reads a body with chunked encoding. That of net/http/httputil reads while
// there is room, and waits in the middle of the next chunk: a message would wait for the bytes
// after it. This one returns the bytes that have arrived. It is not safe for concurrent use.
type ChunkedReader struct {
	src    *bufio.Reader
	left   uint64 // unread bytes of the chunk
	inside bool   // a chunk has begun whose end was not read
	excess uint64 // bytes that are not data, beyond the usual overhead
	err    error  // ended the body
}

// NewChunkedReader returns a reader of the body in src.
func NewChunkedReader(src *bufio.Reader) *ChunkedReader { return &ChunkedReader{src: src} }

const (
	usualChunkHead = 16       // bytes of a chunk that are not data
	maxChunkExcess = 16 << 10 // further bytes, and further than twice the data
	maxChunkHead   = 4 << 10  // bytes of its head
	maxChunkDigits = 16       // of its length
)

// Read implements io.Reader.
func (r *ChunkedReader) Read(p []byte) (n int, err error) {
	for n < len(p) && r.err == nil {
		if r.left == 0 {
			if n > 0 && !r.headArrived() {
				break
			}
			r.left, r.err = r.next()
			continue
		}
		if n > 0 && r.src.Buffered() == 0 {
			break
		}
		var k int
		k, r.err = r.src.Read(p[n : n+int(min(uint64(len(p)-n), r.left))])
		n += k
		r.left -= uint64(k)
		r.err = inChunk(r.err)
	}
	if n > 0 {
		return n, nil
	}
	return 0, r.err
}

// headArrived reports whether the next chunk can begin without waiting.
func (r *ChunkedReader) headArrived() bool {
	come, _ := r.src.Peek(r.src.Buffered())
	if r.inside { // the end of the chunk, which is two bytes, comes first
		come = come[min(2, len(come)):]
	}
	return bytes.IndexByte(come, '\n') >= 0
}

// next reads the head of the next chunk, and returns the length of the chunk. After the last one it
// returns io.EOF.
func (r *ChunkedReader) next() (size uint64, err error) {
	if r.inside {
		end, err := r.src.Peek(2)
		if err != nil {
			return 0, inChunk(err)
		}
		if string(end) != "\r\n" {
			return 0, errors.New("malformed chunked encoding")
		}
		_, _ = r.src.Discard(2)
	}
	r.inside = true
	line, err := r.line()
	if err != nil {
		return 0, err
	}
	overhead := uint64(len(line)) + 2                                    // including the end of the chunk
	digits, _, _ := bytes.Cut(bytes.TrimRight(line, " \t"), []byte{';'}) // extensions
	if len(digits) > maxChunkDigits {
		return 0, errors.New("chunk length is too long")
	}
	if size, err = strconv.ParseUint(string(digits), 16, 64); err != nil {
		return 0, fmt.Errorf("invalid byte in chunk length: %.32q", digits)
	}
	if size == 0 {
		return 0, io.EOF
	}
	usual := usualChunkHead + 2*min(size, maxChunkExcess)
	if r.excess = max(r.excess+overhead, usual) - usual; r.excess > maxChunkExcess {
		return 0, errors.New("chunked encoding contains too much non-data")
	}
	return size, nil
}

// line returns a line without its end; it stays valid until the next read.
func (r *ChunkedReader) line() ([]byte, error) {
	line, err := r.src.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) || len(line) >= maxChunkHead+2 {
		return nil, errors.New("head of a chunk is too long")
	}
	if err != nil {
		return nil, inChunk(err)
	}
	line, ok := bytes.CutSuffix(line, []byte("\r\n"))
	if !ok || bytes.IndexByte(line, '\r') >= 0 {
		return nil, errors.New("malformed chunked encoding")
	}
	return line, nil
}

// inChunk returns the error for a source that ended too early.
func inChunk(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
