// Package promise simulates what a Transport promises (the guarantees of package rafthttp), without raft: members that
// send numbered messages and snapshots to each other over a network in memory, in virtual time, under faults that a seed
// decides. What was sent is compared with what was processed and reported, all the time, also during faults.
//
//	go test ./promise -run TestPromises -v -seed 7 -seeds 100
//
// Raft repairs nearly everything that a transport breaks, so package sim sees little of it. Here nothing is repaired: a
// message that is lost without a report, or comes twice, or in the wrong order, is a violation.
//
// A [Plan] is drawn from a seed before the run: who is a member and how it runs in each of its lives, what happens when.
// Each seed has some dimensions of trouble (a slow disk, a dial that works one way only, a handler behind a middleware)
// and not the others, and some seeds have one alone, since all at once mask each other. Then [Run] does what the plan
// says, and the judges look. There is one for each sentence of the guarantees, or a reason why there is none: see
// guarantees.go.
//
// When the members have stopped, some scenes are played: small situations, each with a judge of its own, that members do
// not get into by themselves, such as a client that posts half a message. See scenes.go.
//
// Three dimensions are drawn beside the others, from a source of their own, so that the rest of the plan of a seed does not
// depend on them: whether connections are sockets of memnet, whether certificates are revoked, and, with the build tag
// faultpoints, whether fault points strike. So a seed has the same plan with that tag and without, but for [Plan].Points.
// Judges of time do not look while fault points strike, and scenes are played afterwards. A plan with Points does not run without the tag.
//
// Raft groups are such a dimension as well: some plans have up to twenty of them over the same Transports ([Group]), each with
// messages and snapshots of its own, which the same judges look at. A group has faults of its own, which the others must not notice.
//
// A plan that fails is cut to the shortest that still does ([Shrink]), which its String prints for a test.
//
// The seed decides the plan. It does not decide the order in which goroutines run: a run of the same plan is alike, not
// the same.
package promise
