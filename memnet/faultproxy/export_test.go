package faultproxy

import "time"

// Reserve gives tests the times at which pieces of a number of bytes leave.
func (d *Direction) Reserve(now time.Time, n int) (piece int, due time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.reserve(now, n)
}
