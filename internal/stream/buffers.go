//go:build !tinybuffers

package stream

// Batch and buffer sizes. With the build tag tinybuffers all of them are tiny, so that
// tests meet every boundary; the limits of queues, which users set, are not.
const (
	// flushBytes is how much a writer encodes before it writes.
	flushBytes = 256 << 10
	// takeMessages is the most messages that a writer takes from its queue at a time.
	takeMessages = 512
	// PieceBytes is the most written under one deadline, if a write that
	// times out cannot be continued: a TLS record.
	PieceBytes = 16 << 10
	// chunkBuffer is the read buffer below a chunked body, which a member that
	// cannot hijack sends: its chunks are as small as its writes.
	chunkBuffer = 32 << 10
	// deliverMessages is the most messages delivered at a time.
	deliverMessages = 128
	// takeGroupMessages and deliverGroupMessages are the same for messages of raft groups.
	takeGroupMessages    = 1024
	deliverGroupMessages = 512
)
