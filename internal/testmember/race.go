//go:build race

package testmember

// RaceEnabled says whether the race detector is on, which changes what is allocated.
const RaceEnabled = true
