//go:build !faultpoints

package faultpoint

const enabled = false

// Hit does nothing without the build tag.
func Hit(Point) {}

// Fails reports false without the build tag.
func Fails(Point) bool { return false }

// Torn returns b without the build tag.
func Torn(_ Point, b []byte) []byte { return b }

// Seed does nothing without the build tag.
func Seed(uint64, ...Point) {}

// Hits returns nil without the build tag.
func Hits() map[string]uint64 { return nil }

// Faults returns nil without the build tag.
func Faults() map[string]uint64 { return nil }
