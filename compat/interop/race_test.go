//go:build race

package interop_test

// raceDetector says that the race detector watches: what is large is made smaller where it proves nothing more.
const raceDetector = true
