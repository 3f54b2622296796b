// Package sim runs clusters of real raft nodes over real transports on a network in memory, in virtual time, under faults
// that a seed decides, and checks what clients saw: hours of bad luck in seconds.
//
//	go test ./sim -run TestSimulation -v -seed 7 -hours 10
//
// A simulation is a row of eras of some minutes. In an era clients append to and read lists while a nemesis composes
// faults at random: links that are cut (one way, a minority, a majority, one member), slow, lossy, narrow, half-open;
// connections reset; members that crash, lose power and come back; messages that are lost, doubled, delayed and
// reordered; members that join and leave. Then everything is mended, and it is measured how long it takes until
//
//   - all streams between members are up: 12.5 s at most, of which 10 s are for what has to be noticed first,
//   - all members have applied the same, with equal contents, and all queues are empty: 30 s at most.
//
// After that,
//
//   - every acknowledged append must be there,
//   - the history of every list must be linearizable (package porcupine),
//   - raft must know the members that the state has,
//   - and whoever was told by ErrorC that it was removed must have been; it ended when it was told, as a server does.
//
// Each time that a member starts, the seed decides how it runs its raft: it saves and then sends, or sends first while it
// leads, or has AsyncStorageWrites; whether it can resume a database that was cut; and how large its queues are. A crash in
// the middle of a write loses it; some disks are slow. Members are run by rafthttp.NewServer, half of the clusters with TLS,
// and keep the databases that come, of up to 4 MiB, in a snap.Store; each must be what was sent, byte for byte.
//
// The seed decides the faults, their order and what clients do. It does not decide the order in which goroutines run, nor
// raft's election timeouts, which cannot be seeded: a run with the same seed is alike, not the same.
package sim
