package faultproxy

import (
	"sync"
	"time"
)

// Direction is one direction of a [Proxy], for all its connections. Its methods may be called concurrently, do not
// block, and affect later bytes as well as bytes in transit in the proxy.
type Direction struct {
	proxy *Proxy
	index int

	mu        sync.Mutex
	delay     time.Duration
	bandwidth int
	free      time.Time // when the bytes sent so far have left, given the bandwidth
	paused    bool
	cut       bool
	cutAfter  int64
	changed   chan struct{} // closed and replaced at each change
}

func (d *Direction) set(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
	close(d.changed)
	d.changed = make(chan struct{})
}

// SetDelay delays bytes. Zero, the default, and below mean no delay.
func (d *Direction) SetDelay(delay time.Duration) { d.set(func() { d.delay = delay }) }

// SetBandwidth sets how many bytes a second pass, all connections together. Zero, the default, and below mean no limit.
func (d *Direction) SetBandwidth(bytesPerSecond int) {
	d.set(func() { d.bandwidth, d.free = max(0, bytesPerSecond), time.Time{} })
}

// Pause makes the direction a black hole: no bytes and no ends of connections are accepted or delivered any more. A
// sender waits once all buffers are full; nothing is lost.
func (d *Direction) Pause() { d.set(func() { d.paused = true }) }

// Resume undoes Pause.
func (d *Direction) Resume() { d.set(func() { d.paused = false }) }

// Cut discards all bytes, and the ends of connections: the sender considers them delivered.
func (d *Direction) Cut() { d.set(func() { d.cut = true }) }

// Mend undoes Cut. Connections that have lost bytes by it are reset, since later bytes would make no sense.
func (d *Direction) Mend() {
	d.set(func() { d.cut = false })
	for _, c := range d.proxy.all() {
		if c.pumps[d.index].lost.Load() {
			c.reset()
		}
	}
}

// HalfOpen closes the existing connections at their far end, of this direction, without telling the near end: it stays
// open, bytes that it sends are discarded, and nothing comes back. Later connections are not affected.
func (d *Direction) HalfOpen() {
	for _, c := range d.proxy.all() {
		c.halfOpen(d.index)
	}
}

// CutAfter resets each connection, on both sides, after it has passed a number of bytes in this direction, from now on or
// from its start: a random number for each connection, from 1 to n. Zero and below undo that.
func (d *Direction) CutAfter(n int64) {
	d.set(func() { d.cutAfter = n })
	for _, c := range d.proxy.all() {
		c.pumps[d.index].plan(n)
	}
}

func (d *Direction) planned() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cutAfter
}

// state reports whether the direction is paused, whether it is cut, and returns the channel that signals changes.
func (d *Direction) state() (paused, cut bool, changed <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.paused, d.cut, d.changed
}

// await waits until the direction is not paused and, if whole is true, not cut. It returns false when done closes
// first.
func (d *Direction) await(whole bool, done <-chan struct{}) bool {
	for {
		paused, cut, changed := d.state()
		if !paused && !(whole && cut) {
			return true
		}
		select {
		case <-changed:
		case <-done:
			return false
		}
	}
}

// delayed waits until bytes taken at a time may be delivered.
func (d *Direction) delayed(taken time.Time, done <-chan struct{}) bool {
	for {
		d.mu.Lock()
		left, changed := time.Until(taken.Add(d.delay)), d.changed
		d.mu.Unlock()
		if left <= 0 {
			return true
		}
		if !sleep(left, changed, done) {
			return false
		}
	}
}

// slowed returns how many of n bytes may be delivered next, after waiting for their time.
func (d *Direction) slowed(n int, done <-chan struct{}) (piece int, ok bool) {
	d.mu.Lock()
	bandwidth := d.bandwidth
	if bandwidth == 0 {
		d.mu.Unlock()
		return n, true
	}
	piece, due := d.reserve(time.Now(), n)
	d.mu.Unlock()
	for {
		d.mu.Lock()
		changed, same := d.changed, d.bandwidth == bandwidth
		d.mu.Unlock()
		left := time.Until(due)
		if left <= 0 || !same {
			return piece, true
		}
		if !sleep(left, changed, done) {
			return 0, false
		}
	}
}

// maxCatchUp is the largest delay of the proxy itself, because a timer fired late or the machine was busy, that it
// makes up for. Otherwise a fast line, whose pieces take less time than a timer's lateness, would be slower than its
// bandwidth.
const maxCatchUp = 20 * time.Millisecond

// reserve assigns the next piece of n bytes its time on the line, and returns its size and when it has left. It is
// called with mu held.
func (d *Direction) reserve(now time.Time, n int) (piece int, due time.Time) {
	// A tenth of a second's worth at a time, so that a slow line is steady.
	piece = min(n, max(1, d.bandwidth/10))
	if now.Sub(d.free) > maxCatchUp {
		d.free = now // the line was idle
	}
	d.free = d.free.Add(time.Duration(piece) * time.Second / time.Duration(d.bandwidth))
	return piece, d.free
}

// sleep waits for a time, or less if something changed. It returns false when done closes first.
func sleep(d time.Duration, changed, done <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-changed:
	case <-done:
		return false
	}
	return true
}
