//go:build tinybuffers

package stream

// For tests: see buffers.go.
const (
	flushBytes      = 64
	takeMessages    = 2
	PieceBytes      = 48
	chunkBuffer     = 16
	deliverMessages = 2
	// takeGroupMessages and deliverGroupMessages are the same for messages of raft groups.
	takeGroupMessages    = 3
	deliverGroupMessages = 2
)
