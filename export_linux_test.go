package rafthttp

// IsNear judges the distance of a connection by its round trips in microseconds.
func IsNear(smoothed, least uint32) bool { return isNear(smoothed, least) }
