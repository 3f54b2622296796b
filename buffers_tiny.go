//go:build tinybuffers

package rafthttp

// For tests: see buffers.go.
const (
	flushBytes      = 64
	takeMessages    = 2
	pieceBytes      = 48
	chunkBuffer     = 16
	deliverMessages = 2
	runMessages     = 2
	processMessages = 3
	releaseMessages = 1
	releaseBytes    = 1
)
