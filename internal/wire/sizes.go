//go:build !tinybuffers

package wire

// Sizes, in bytes except for the last. With the build tag tinybuffers they are tiny, so
// that tests meet every boundary.
const (
	minBuffer    = 4 << 10   // initial size of a Reader's buffer
	maxBuffer    = 256 << 10 // maximum size of a Reader's buffer
	pastBuffer   = 64 << 10  // a Reader's buffer after large data: the rest of the row needs no copy
	peekBytes    = 64 << 10  // maximum size of data made contiguous in a Reader's buffer
	ahead        = 1 << 20   // maximum allocation before the data has arrived
	keepBuffer   = 4 << 10   // buffer that a batch keeps when it shrinks
	joinBytes    = 64 << 10  // minimum size of a write without writev, except the last
	burstBytes   = 2 << 10   // bytes that must have arrived beside a message for it to be part of a burst
	slabBytes    = 64 << 10  // largest piece shared by small data
	keptEntry    = 1 << 10   // from here an entry may keep the Reader's buffer that contains it,
	keptBuffer   = 32 << 10  // if that is no larger
	chunkEntries = 256       // most entries that share an allocation
)
