package queue

import "time"

// load is a number of messages, and their size.
type load struct {
	messages int
	bytes    int64
}

// measure returns the load of items, and of those that the window tracks.
func measure(items []Item) (all, tracked load) {
	all.messages = len(items)
	for i := range items {
		it := &items[i]
		all.bytes += it.Size
		if it.tracked() {
			tracked.messages++
			tracked.bytes += it.Size
		}
	}
	return all, tracked
}

// fifo is what waits in a queue, or of one kind in it, in order. It is guarded by the lock of the queue.
type fifo struct {
	items     []Item // items[head:] wait
	head      int
	held      int   // messages that wait or are in a worker's hands
	heldBytes int64 // their size
	tracked   load  // those of them that the window tracks
}

func (f *fifo) len() int { return len(f.items) - f.head }

// fits reports whether one more message of this size is within the bounds. What is larger
// than the bound in bytes fits while nothing is held.
func (f *fifo) fits(size int64, limits *Limits) bool {
	return f.held == 0 || (f.held < limits.Messages && f.heldBytes+size <= limits.Bytes)
}

// fill is how full the queue is, from 0 to 1.
func (f *fifo) fill(limits Limits) float64 {
	return max(float64(f.held)/float64(limits.Messages), float64(f.heldBytes)/float64(limits.Bytes))
}

func (f *fifo) push(it Item) {
	if f.head > 0 && len(f.items) == cap(f.items) {
		f.compact()
	}
	f.items = append(f.items, it)
	f.held++
	f.heldBytes += it.Size
	if it.tracked() {
		f.tracked.messages++
		f.tracked.bytes += it.Size
	}
}

// pushAll is push for items that no window tracks, accepted at this time.
func (f *fifo) pushAll(items []Item, all load, at time.Duration) {
	if f.head > 0 && len(f.items)+len(items) > cap(f.items) {
		f.compact()
	}
	n := len(f.items)
	f.items = append(f.items, items...)
	for i := range f.items[n:] {
		f.items[n+i].at = at
	}
	f.held += all.messages
	f.heldBytes += all.bytes
}

// compact moves what waits to the front.
func (f *fifo) compact() {
	n := copy(f.items, f.items[f.head:])
	clear(f.items[n:])
	f.items, f.head = f.items[:n], 0
}

// pop takes up to n messages, and no more after so many bytes, with the empty buffer
// buf, which it may keep.
func (f *fifo) pop(buf []Item, n int, bytes int64) []Item {
	n = min(n, f.len())
	if bytes > 0 {
		n = f.within(n, bytes)
	}
	if n == len(f.items) { // all: the two change places, which costs no copy
		f.items, buf = buf, f.items
		return buf
	}
	taken := f.items[f.head : f.head+n]
	buf = append(buf, taken...)
	clear(taken)
	if f.head += n; f.head == len(f.items) {
		f.items, f.head = f.items[:0], 0
	}
	return buf
}

// within returns how many of the next n messages reach so many bytes.
func (f *fifo) within(n int, bytes int64) int {
	for i, it := range f.items[f.head : f.head+n] {
		if bytes -= it.Size; bytes <= 0 {
			return i + 1
		}
	}
	return n
}

// release makes room for messages that are done with, some of which the window tracks.
func (f *fifo) release(all, tracked load) {
	f.held -= all.messages
	f.heldBytes -= all.bytes
	f.tracked.messages -= tracked.messages
	f.tracked.bytes -= tracked.bytes
}

// drain returns all that waits, and how many bytes that is.
func (f *fifo) drain() (items []Item, bytes int64) {
	items = f.items[f.head:]
	all, tracked := measure(items)
	f.items, f.head = nil, 0
	f.release(all, tracked)
	return items, all.bytes
}

// oldest returns when the first that waits was accepted, by the clock of the queue.
func (f *fifo) oldest() time.Duration { return f.items[f.head].at }
