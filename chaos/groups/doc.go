// Package groups simulates many raft groups that share Transports: 50 groups of three replicas on five nodes, with real
// raft (RawNode) for each replica, on a network in memory, in virtual time, under faults drawn from a seed.
//
//	go test ./groups -run TestGroups -v -seed 7 -hours 1
//
// A simulation is a sequence of eras. An era has two parts, and after each of them all faults end:
//
//   - faults of the network and of nodes: one-way cuts, partitions, slow, lossy and narrow links, half-open and reset
//     connections, crashes, a node that comes back without its logs, whose replicas are replaced by others with new ids;
//     and the faults of the second part as well,
//   - faults of single groups: one whose Process blocks for one kind of messages, one that floods, and
//     replicas that are added, removed and moved to other nodes.
//
// Logs are compacted, so that a replica that was away needs a snapshot with a database of some kilobytes.
//
// These must hold at any time:
//
//   - log: the applied entries of all replicas of a group are prefixes of one sequence, each proposal is applied at most once and
//     unchanged, and a database is that of its group and index;
//   - address: a message reaches only the group and the replica that it was sent to, and none after Stop has returned;
//   - report: there is exactly one ReportSnapshot for each snapshot;
//   - removed: ErrorC names only replicas that were removed;
//   - panic: raft does not panic.
//
// These must hold after the first part:
//
//   - recovery: within 30 s each group has applied a new entry on all its replicas, and removed replicas have ended.
//
// And this must hold in the second:
//
//   - isolation: a group without a fault keeps its leader and term, and applies each proposal within 2 s.
//
// The seed decides the faults, their order and the proposals. It does not decide the order in which goroutines run, nor
// raft's election timeouts: two runs with one seed are alike, and not the same.
package groups
