//go:build !race

package server

// RaceEnabled says whether the race detector is there.
const RaceEnabled = false
