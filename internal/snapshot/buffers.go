package snapshot

import "sync"

const (
	// bufferBytes is what a transfer copies at once where bytes pass through memory.
	bufferBytes = 256 << 10
	// sliceBytes is what the kernel is told to move at once.
	sliceBytes = 1 << 20
)

// buffers has *[]byte of bufferBytes.
var buffers = sync.Pool{New: func() any {
	b := make([]byte, bufferBytes)
	return &b
}}
