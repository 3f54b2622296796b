//go:build !tinybuffers

package receive

// Batch sizes. With the build tag tinybuffers all of them are tiny, so that
// tests meet every boundary; the limits of queues, which users set, are not.
const (
	// processMessages is the most messages that a receive queue's worker takes at a time.
	processMessages = 512
	// releaseMessages is how many of them, and releaseBytes how much, it processes
	// before it makes room for others.
	releaseMessages = 64
	releaseBytes    = 256 << 10
)
