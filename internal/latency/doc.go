// Package latency measures where appends to one peer spend their time, and where those from it do, and
// says which peer is slow, and why.
//
// An append to a peer goes through three parts:
//
//	queue     it waits in our send queue
//	wire      it is written, and the peer's system acknowledges it, or could do so: it may delay that
//	follower  the peer reads it, processes it, saves it, and answers
//
// and one from a peer through two more, here:
//
//	receive   it waits in the receive queue
//	process   Raft.Process has it
//
// Appends are sampled: one is followed at a time, until an answer covers its index. That
// costs no allocation, and for all others an atomic load for each write and each answer.
// While one is followed, each write takes a lock for a moment, and asks the system how far
// the append has got, at most every 10 ms.
package latency

import "time"

// Part is where an append spends time.
type Part int

// The parts, and how many there are. The first three are those of an append to a peer.
const (
	Queue Part = iota
	Wire
	Follower
	Receive
	Process
	Parts
)

// String returns the name of the part in Status and metrics.
func (p Part) String() string {
	return [Parts]string{"queue", "wire", "follower", "receive", "process"}[p]
}

// Every is the least time between two samples.
const Every = 10 * time.Millisecond

// Times are how long something took in each part.
type Times [Parts]time.Duration

// Total returns the sum.
func (t Times) Total() (sum time.Duration) {
	for _, d := range t {
		sum += d
	}
	return sum
}
