package snapshot

import "sync"

const (
	// bufferBytes is what a transfer copies at once where bytes pass through memory.
	bufferBytes = 256 << 10
	// SliceBytes is what the kernel is told to move at once.
	SliceBytes = 1 << 20
)

// Buffers has *[]byte of bufferBytes.
var Buffers = sync.Pool{New: func() any {
	b := make([]byte, bufferBytes)
	return &b
}}
