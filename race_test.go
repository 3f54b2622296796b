//go:build race

package rafthttp_test

// raceEnabled says that the race detector is on, which changes what is
// allocated.
const raceEnabled = true
