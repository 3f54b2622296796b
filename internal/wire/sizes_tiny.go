//go:build tinybuffers

package wire

// For tests: see sizes.go.
const (
	minBuffer    = 32
	maxBuffer    = 256
	pastBuffer   = 64
	peekBytes    = 64
	ahead        = 1 << 10
	keepBuffer   = 16
	joinBytes    = 64
	burstBytes   = 64
	slabBytes    = 4 << 10 // the minimum: one piece that is not separate
	keptEntry    = 16
	keptBuffer   = 128
	chunkEntries = 4
)
