//go:build tinybuffers

package queue

// For tests: see sizes.go.
const budgetChunk = 1
