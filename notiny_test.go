//go:build !tinybuffers

package rafthttp_test

const tinyBuffers = false
