//go:build tinybuffers

package rafthttp_test

// tinyBuffers says that batches have next to no room: see buffers.go.
const tinyBuffers = true
