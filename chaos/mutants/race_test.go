//go:build race

package main

// raceEnabled says that the race detector is on, which changes what is
// allocated.
const raceEnabled = true
