//go:build !tinybuffers

package queue

// RunMessages is how many messages a queue should be offered at once, at most: meanwhile its
// worker waits. With the build tag tinybuffers it is tiny, so that tests meet every boundary.
const RunMessages = 64
