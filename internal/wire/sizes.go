//go:build !tinybuffers

package wire

// Sizes, in bytes but for the last. With the build tag tinybuffers they are tiny, so
// that tests meet every boundary.
const (
	minBuffer    = 4 << 10   // a Reader's buffer at first
	maxBuffer    = 256 << 10 // a Reader's buffer at most
	pastBuffer   = 64 << 10  // a Reader's buffer after what is large: the rest of the row needs no copy
	peekBytes    = 64 << 10  // the most that is made contiguous in a Reader's buffer
	ahead        = 1 << 20   // what is allocated, at most, before it has arrived
	keepBuffer   = 4 << 10   // what a batch keeps when it shrinks
	joinBytes    = 64 << 10  // least size of a write where there is no writev, but for the last
	burstBytes   = 2 << 10   // what has to have come besides for a message to be one of a burst
	slabBytes    = 64 << 10  // largest piece that small data share
	keptEntry    = 1 << 10   // from here an entry may keep the Reader's buffer that it came in,
	keptBuffer   = 32 << 10  // if that is no larger
	chunkEntries = 256       // most entries that share an allocation
)
