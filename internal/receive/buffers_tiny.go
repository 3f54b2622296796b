//go:build tinybuffers

package receive

// For tests: see buffers.go.
const (
	processMessages = 3
	releaseMessages = 1
	releaseBytes    = 1
)
