//go:build !tinybuffers

package receive

// What is done at once. With the build tag tinybuffers all of it is tiny, so that
// tests meet every boundary; the bounds of queues, which users set, are not.
const (
	// processMessages is how many messages a receive queue's worker takes at once.
	processMessages = 512
	// releaseMessages is how many of them, and releaseBytes how much, it processes
	// before it makes room for others.
	releaseMessages = 64
	releaseBytes    = 256 << 10
)
