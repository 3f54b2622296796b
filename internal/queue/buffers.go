//go:build !tinybuffers

package queue

// RunMessages is the most messages to offer to a queue at a time: meanwhile its
// worker waits. With the build tag tinybuffers it is tiny, so that tests meet every boundary.
const RunMessages = 64
