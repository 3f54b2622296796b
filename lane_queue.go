package rafthttp

import "time"

// load is a number of messages, and their size.
type load struct {
	messages int
	bytes    int64
}

// measure returns the load of items, and of those that the lane's window tracks.
func measure(items []item) (all, tracked load) {
	all.messages = len(items)
	for i := range items {
		it := &items[i]
		all.bytes += it.size
		if it.tracked() {
			tracked.messages++
			tracked.bytes += it.size
		}
	}
	return all, tracked
}

// fifo is what waits in a lane, in order. It is guarded by the lock of its lane.
type fifo struct {
	items     []item // items[head:] wait
	head      int
	held      int   // messages that wait or are in a worker's hands
	heldBytes int64 // their size
	tracked   load  // those of them that the lane's window tracks
}

func (q *fifo) len() int { return len(q.items) - q.head }

// fits reports whether one more message of this size is within the bounds. What is larger
// than the bound in bytes fits while nothing is held.
func (q *fifo) fits(size int64, limits *laneLimits) bool {
	return q.held == 0 || (q.held < limits.messages && q.heldBytes+size <= limits.bytes)
}

// fill is how full the queue is, from 0 to 1.
func (q *fifo) fill(limits laneLimits) float64 {
	return max(float64(q.held)/float64(limits.messages), float64(q.heldBytes)/float64(limits.bytes))
}

func (q *fifo) push(it item) {
	if q.head > 0 && len(q.items) == cap(q.items) {
		q.compact()
	}
	q.items = append(q.items, it)
	q.held++
	q.heldBytes += it.size
	if it.tracked() {
		q.tracked.messages++
		q.tracked.bytes += it.size
	}
}

// pushAll is push for items that no window tracks, accepted at this time.
func (q *fifo) pushAll(items []item, all load, at time.Duration) {
	if q.head > 0 && len(q.items)+len(items) > cap(q.items) {
		q.compact()
	}
	n := len(q.items)
	q.items = append(q.items, items...)
	for i := range q.items[n:] {
		q.items[n+i].at = at
	}
	q.held += all.messages
	q.heldBytes += all.bytes
}

// compact moves what waits to the front.
func (q *fifo) compact() {
	n := copy(q.items, q.items[q.head:])
	clear(q.items[n:])
	q.items, q.head = q.items[:n], 0
}

// pop takes up to n messages, and no more after so many bytes, with the empty buffer
// buf, which it may keep.
func (q *fifo) pop(buf []item, n int, bytes int64) []item {
	n = min(n, q.len())
	if bytes > 0 {
		n = q.within(n, bytes)
	}
	if n == len(q.items) { // all: the two change places, which costs no copy
		q.items, buf = buf, q.items
		return buf
	}
	taken := q.items[q.head : q.head+n]
	buf = append(buf, taken...)
	clear(taken)
	if q.head += n; q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
	}
	return buf
}

// within returns how many of the next n messages reach so many bytes.
func (q *fifo) within(n int, bytes int64) int {
	for i, it := range q.items[q.head : q.head+n] {
		if bytes -= it.size; bytes <= 0 {
			return i + 1
		}
	}
	return n
}

// release says that messages are done with, some of which the lane's window tracks.
func (q *fifo) release(all, tracked load) {
	q.held -= all.messages
	q.heldBytes -= all.bytes
	q.tracked.messages -= tracked.messages
	q.tracked.bytes -= tracked.bytes
}

// drain returns all that waits, and how many bytes that is.
func (q *fifo) drain() (items []item, bytes int64) {
	items = q.items[q.head:]
	all, tracked := measure(items)
	q.items, q.head = nil, 0
	q.release(all, tracked)
	return items, all.bytes
}

// oldest returns when the first that waits was accepted, by the lane's clock.
func (q *fifo) oldest() time.Duration { return q.items[q.head].at }
