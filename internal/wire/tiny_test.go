//go:build tinybuffers

package wire_test

// tinyBuffers says that sizes are tiny: see sizes.go.
const tinyBuffers = true
