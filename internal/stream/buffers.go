//go:build !tinybuffers

package stream

// What is done at once. With the build tag tinybuffers all of it is tiny, so that
// tests meet every boundary; the bounds of queues, which users set, are not.
const (
	// flushBytes is how much a writer encodes before it writes.
	flushBytes = 256 << 10
	// takeMessages is how many messages a writer takes from its queue at once.
	takeMessages = 512
	// pieceBytes is the most that one deadline is set for, where a write that
	// times out cannot be continued: a record of TLS.
	PieceBytes = 16 << 10
	// chunkBuffer is the read buffer below a chunked body, which a member that
	// cannot hijack sends: its chunks are as small as its writes.
	chunkBuffer = 32 << 10
	// deliverMessages is how many messages are handed over at once, at most.
	deliverMessages = 128
)
