package queue

import "time"

// load is a number of messages, and their size.
type load struct {
	messages int
	bytes    int64
}

// measure returns the load of items, and of those tracked by the window.
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

// fifo has the waiting items of a queue, or of one kind in it, in order. It is guarded by the lock of the queue.
type fifo struct {
	items     []Item // items[head:] wait
	head      int
	held      int   // messages that wait or that workers hold
	heldBytes int64 // their size
	tracked   load  // those of them tracked by the window
	full      Fullness
	// late is when the first message was accepted of those that went on one after another, up to the last one, after they had
	// waited for Old; 0: the last one had not.
	late time.Duration
}

// noteAge takes in that the oldest message, which was accepted then, goes on at this time, by the clock of the queue.
func (f *fifo) noteAge(at, now time.Duration) {
	switch {
	case now-at < Old:
		f.late = 0
	case f.late == 0:
		f.late = at
	}
}

// noteFull is called after f has accepted or released messages.
func (f *fifo) noteFull(limits *Limits) {
	f.full.Note(f.held, int64(f.held), int64(limits.Messages), f.heldBytes, limits.Bytes)
}

func (f *fifo) len() int { return len(f.items) - f.head }

// fits reports whether one more message of this size is within the limits. A message larger
// than the limit in bytes fits while none is held.
func (f *fifo) fits(size int64, limits *Limits) bool {
	return f.held == 0 || (f.held < limits.Messages && f.heldBytes+size <= limits.Bytes)
}

// fill returns the fill level of the queue, from 0 to 1.
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

// compact moves the waiting items to the front.
func (f *fifo) compact() {
	n := copy(f.items, f.items[f.head:])
	clear(f.items[n:])
	f.items, f.head = f.items[:n], 0
}

// pop takes up to n messages, and none after this many bytes, with the empty buffer
// buf, which it may keep.
func (f *fifo) pop(buf []Item, n int, bytes int64) []Item {
	n = min(n, f.len())
	if bytes > 0 {
		n = f.within(n, bytes)
	}
	if n == len(f.items) { // all: swapping the two avoids a copy
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

// within returns how many of the next n messages reach this many bytes.
func (f *fifo) within(n int, bytes int64) int {
	for i, it := range f.items[f.head : f.head+n] {
		if bytes -= it.Size; bytes <= 0 {
			return i + 1
		}
	}
	return n
}

// release makes room for finished messages, some of which the window tracks.
func (f *fifo) release(all, tracked load) {
	if f.held -= all.messages; f.held == 0 {
		f.late = 0
	}
	f.heldBytes -= all.bytes
	f.tracked.messages -= tracked.messages
	f.tracked.bytes -= tracked.bytes
}

// drain returns all waiting items, and their bytes.
func (f *fifo) drain() (items []Item, bytes int64) {
	items = f.items[f.head:]
	all, tracked := measure(items)
	f.items, f.head = nil, 0
	f.release(all, tracked)
	return items, all.bytes
}

// oldest returns the first waiting item.
func (f *fifo) oldest() Item { return f.items[f.head] }
