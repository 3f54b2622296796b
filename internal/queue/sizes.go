//go:build !tinybuffers

package queue

// budgetChunk is what a queue takes of the budget at once, at most, so that it does so once for many
// small messages. A queue has up to two of them more than it holds.
const budgetChunk = 16 << 10
