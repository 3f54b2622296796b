//go:build !tinybuffers

package wire_test

const tinyBuffers = false
