package rafthttp

// IsNear reports whether streams of a connection with these round trips, in
// microseconds, have a send buffer of our choice.
func IsNear(smoothed, least uint32) bool { return streamBuffer().fits(smoothed, least) }
