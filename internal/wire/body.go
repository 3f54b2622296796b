package wire

import (
	"io"
	"sync"
)

// pieces are buffers of ahead bytes, for the first bytes of longer data.
var pieces = sync.Pool{New: func() any { return new([ahead]byte) }}

// readData reads n bytes into a separate slice. The slice is allocated when
// all but its last ahead bytes have arrived: until then these wait in pieces.
func readData(r io.Reader, n uint64) ([]byte, error) {
	if n <= ahead {
		p := make([]byte, n)
		_, err := io.ReadFull(r, p)
		return p, inside(err)
	}
	var held []*[ahead]byte
	defer func() {
		for _, p := range held {
			pieces.Put(p)
		}
	}()
	first := n - ahead
	for have := uint64(0); have < first; {
		p := pieces.Get().(*[ahead]byte)
		held = append(held, p)
		got, err := io.ReadFull(r, p[:min(ahead, first-have)])
		if err != nil {
			return nil, inside(err)
		}
		have += uint64(got)
	}
	data := make([]byte, n)
	for i, p := range held {
		copy(data[i*ahead:first], p[:])
	}
	_, err := io.ReadFull(r, data[first:])
	return data, inside(err)
}

// ReadBody reads r to its end and returns all bytes. sizeHint is the expected
// length, below 0 if unknown. A body of more than limit bytes is
// a SizeError: a declared one before any read, else after limit+1 bytes.
// It allocates at most 1 MiB ahead of the bytes that arrived. Errors of r are returned
// unchanged, without the bytes read.
func ReadBody(r io.Reader, sizeHint int64, limit uint64) ([]byte, error) {
	if sizeHint > 0 && uint64(sizeHint) > limit {
		return nil, &SizeError{What: "body", Size: uint64(sizeHint), Limit: limit}
	}
	size := uint64(4 << 10)
	if sizeHint >= 0 {
		size = uint64(sizeHint) + 1 // room to detect the end
	}
	var (
		parts [][]byte
		held  []*[ahead]byte
		total uint64
	)
	defer func() {
		for _, p := range held {
			pieces.Put(p)
		}
	}()
	part := make([]byte, min(size-1, ahead-1, limit)+1)
	for {
		n, err := readUpTo(r, part)
		parts = append(parts, part[:n])
		total += uint64(n)
		switch {
		case total > limit:
			return nil, &SizeError{What: "body", Size: total, Limit: limit}
		case err == io.EOF:
			return join(parts, total), nil
		case err != nil:
			return nil, err
		}
		p := pieces.Get().(*[ahead]byte)
		held = append(held, p)
		part = p[:min(ahead, limit-total+1)]
	}
}

// readUpTo fills p, or returns the error of r.
func readUpTo(r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var k int
		k, err = r.Read(p[n:])
		n += k
	}
	if n == len(p) && n > 0 {
		err = nil
	}
	return n, err
}

func join(parts [][]byte, size uint64) []byte {
	if len(parts) == 1 {
		return parts[0]
	}
	all := make([]byte, 0, size)
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}
