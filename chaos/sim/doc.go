// Package sim runs clusters of real raft nodes over real transports on a network in memory, in virtual time, under faults
// that a seed decides, and checks what clients saw: hours of bad luck in seconds.
//
//	go test ./sim -run TestSimulation -v -seed 7 -hours 10
//
// A simulation is a row of eras of some minutes. In an era clients append to and read lists while a nemesis composes
// faults at random: links that are cut (one way, a minority, a majority, one member), slow, lossy, narrow, half-open;
// connections reset; members that crash, lose power and come back; messages that are lost, doubled, delayed and
// reordered; members that join and leave. Then everything is mended, and within a minute
//
//   - all members must have applied the same, with equal contents,
//   - all streams between them must be up and all queues empty,
//   - every acknowledged append must be there,
//   - and the history of every list must be linearizable (package porcupine).
//
// Each time that a member starts, the seed decides how it runs its raft: it saves and then sends, or sends first while it
// leads, or has AsyncStorageWrites. A crash in the middle of a write loses it; some disks are slow.
//
// The seed decides the faults, their order and what clients do. It does not decide the order in which goroutines run, nor
// raft's election timeouts, which cannot be seeded: a run with the same seed is alike, not the same.
package sim
