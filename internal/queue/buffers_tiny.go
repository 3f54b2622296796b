//go:build tinybuffers

package queue

// RunMessages is for tests: see buffers.go.
const RunMessages = 2
