//go:build tinybuffers

package testmember

// TinyBuffers says whether batches have next to no room: see the room of a batch in internal/wire.
const TinyBuffers = true
