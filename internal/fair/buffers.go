//go:build !tinybuffers

package fair

// With the build tag tinybuffers these are tiny, so that tests meet every boundary.
const (
	// quantum is how many bytes a flow may send at a turn.
	quantum = 16 << 10
	// turnMessages is how many messages of an inbox a worker processes at a turn.
	turnMessages = 16
	// batchMessages is how many messages, of one or several inboxes, a worker takes at a time; less than 256.
	batchMessages = 64
)
