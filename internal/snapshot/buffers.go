package snapshot

import "sync"

const (
	// bufferBytes is how much a transfer copies at a time if bytes pass through memory.
	bufferBytes = 256 << 10
	// sliceBytes is how much the kernel moves at a time.
	sliceBytes = 1 << 20
)

// buffers holds *[]byte of bufferBytes.
var buffers = sync.Pool{New: func() any {
	b := make([]byte, bufferBytes)
	return &b
}}
