package faultproxy

import (
	"sync"
	"time"
)

// Direction is one way through a [Proxy], for all its connections. Its methods may be called concurrently, do not block,
// and hold for what comes after them as well as for what is under way in the proxy.
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

// SetDelay holds bytes back for a time. Zero, the default, and below mean none.
func (d *Direction) SetDelay(delay time.Duration) { d.set(func() { d.delay = delay }) }

// SetBandwidth sets how many bytes a second pass, all connections together. Zero, the default, and below mean no limit.
func (d *Direction) SetBandwidth(bytesPerSecond int) {
	d.set(func() { d.bandwidth, d.free = max(0, bytesPerSecond), time.Time{} })
}

// Pause makes the direction a black hole: nothing is taken or delivered any more, also no end of a connection. Who sends
// waits once all buffers are full; nothing is lost.
func (d *Direction) Pause() { d.set(func() { d.paused = true }) }

// Resume undoes Pause.
func (d *Direction) Resume() { d.set(func() { d.paused = false }) }

// Cut has all that comes be taken and thrown away, also the ends of connections: who sends believes that it arrives.
func (d *Direction) Cut() { d.set(func() { d.cut = true }) }

// Mend undoes Cut. Connections that have lost something by it are reset, since what follows would make no sense.
func (d *Direction) Mend() {
	d.set(func() { d.cut = false })
	for _, c := range d.proxy.all() {
		if c.pumps[d.index].lost.Load() {
			c.reset()
		}
	}
}

// HalfOpen closes the connections there are at their far end, of this direction, and tells the near end nothing: it stays
// open, what it sends is thrown away, and nothing comes back. Connections made later are whole.
func (d *Direction) HalfOpen() {
	for _, c := range d.proxy.all() {
		c.halfOpen(d.index)
	}
}

// CutAfter resets each connection, on both sides, after it has passed a number of bytes in this direction, from now on or
// from its beginning: drawn anew for each connection, from 1 to n. Zero and below undo that.
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

// state returns whether nothing passes, whether what comes is thrown away, and what tells of changes.
func (d *Direction) state() (paused, cut bool, changed <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.paused, d.cut, d.changed
}

// await waits until the direction is not paused and, if whole is true, not cut. It reports false when done closes first.
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

// delayed waits until what was taken at a time may be delivered.
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

// slowed returns how many of n bytes may be delivered next, after it has waited for their time.
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

// maxCatchUp is by how much the proxy itself may be late, because a timer fired late or the machine was busy, and make up
// for it. Otherwise a fast line, whose pieces take less time than a timer is late by, would be slower than its bandwidth.
const maxCatchUp = 20 * time.Millisecond

// reserve gives the next piece of n bytes its time on the line, and returns its size and when it has left. It is called
// with mu held.
func (d *Direction) reserve(now time.Time, n int) (piece int, due time.Time) {
	// A tenth of a second's worth at once, so that a slow line is steady.
	piece = min(n, max(1, d.bandwidth/10))
	if now.Sub(d.free) > maxCatchUp {
		d.free = now // the line was idle
	}
	d.free = d.free.Add(time.Duration(piece) * time.Second / time.Duration(d.bandwidth))
	return piece, d.free
}

// sleep waits for a time, or less if something changed. It reports false when done closes first.
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
