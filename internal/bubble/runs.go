package bubble

// Runs returns how often a test repeats its simulation: all times, or with the race detector only raced times. The detector
// makes each several times slower, and finds the races of the same code in the first of them. tools/test also runs the tests
// that use it without the detector, where nothing is left out.
func Runs(all, raced int) int {
	if raceEnabled {
		return raced
	}
	return all
}
