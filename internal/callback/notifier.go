package callback

import (
	"slices"
	"sync"
)

// notifier calls the application asynchronously and in order, on a goroutine that exists only
// while there is something to call: a slow callback delays neither the caller nor the other
// notifiers. It is safe for concurrent use, and adding to it never blocks.
type notifier struct {
	mu      sync.Mutex    // also guards the source of take
	take    func() func() // removes the next call from its source; nil: none is left. Called with mu held
	running bool
	closed  bool           // later additions are not called
	ended   func()         // called without mu when none is left; may be nil
	wg      sync.WaitGroup // joins the goroutine
}

// start runs the calls that were added. It is called with mu held.
func (n *notifier) start() {
	if !n.running && !n.closed {
		n.running = true
		n.wg.Go(n.run)
	}
}

func (n *notifier) run() {
	for {
		n.mu.Lock()
		call := n.take()
		n.running = call != nil
		n.mu.Unlock()
		if call == nil {
			if n.ended != nil {
				n.ended()
			}
			return
		}
		call()
	}
}

// busy reports whether a call is running.
func (n *notifier) busy() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.running
}

// setClosed decides whether later additions are called.
func (n *notifier) setClosed(closed bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = closed
}

// close returns when all calls that were added have returned. None comes later.
func (n *notifier) close() {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	n.wg.Wait()
}

// Queue calls functions asynchronously, one after another in the order of their addition. It is
// safe for concurrent use.
type Queue struct {
	notifier notifier
	limit    int
	waiting  []func()
}

// NewQueue returns a queue in which at most limit functions wait. Close it when it is no longer
// used.
func NewQueue(limit int) *Queue {
	q := &Queue{limit: limit}
	q.notifier.take = q.takeOne
	return q
}

// Add adds f, or does nothing if too many functions wait. It does not block.
func (q *Queue) Add(f func()) {
	q.notifier.mu.Lock()
	defer q.notifier.mu.Unlock()
	if !q.full() {
		q.add(f)
	}
}

// Close waits until all functions that were added have returned. None is called later.
func (q *Queue) Close() { q.notifier.close() }

// full is called with mu held.
func (q *Queue) full() bool { return len(q.waiting) >= q.limit }

// add is called with mu held.
func (q *Queue) add(f func()) {
	q.waiting = append(q.waiting, f)
	q.notifier.start()
}

// takeOne is called with mu held.
func (q *Queue) takeOne() func() {
	if len(q.waiting) == 0 {
		q.waiting = nil
		return nil
	}
	f := q.waiting[0]
	q.waiting = slices.Delete(q.waiting, 0, 1)
	return f
}
