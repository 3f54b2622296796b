//go:build tinybuffers

package fair

// For tests: see buffers.go.
const (
	quantum       = 300
	turnMessages  = 2
	batchMessages = 5
)
