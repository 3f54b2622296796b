//go:build !tinybuffers

package queue

// budgetChunk is the most that a queue takes from the budget at a time in advance, so that it does so once for many
// small messages. A queue has up to two of them more than it holds.
const budgetChunk = 16 << 10
