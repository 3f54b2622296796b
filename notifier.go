package rafthttp

import "sync"

// notifier tells somebody (Raft, the Observer, the log) what happened, in order, on
// a goroutine that exists only while there is something to tell: whoever it tells
// may be slow, and holds up neither what goes on nor what others are told. It is
// safe for concurrent use and never blocks those who add to it.
type notifier struct {
	mu      sync.Mutex    // guards what take takes from, too
	take    func() func() // takes out what is to be told next; nil: nothing is left. Called with mu held
	running bool
	closed  bool           // what is added is not told
	ended   func()         // called without mu when all is told; nil: nobody wants to know
	wg      sync.WaitGroup // joins the goroutine
}

// start has what was added told. It is called with mu held.
func (n *notifier) start() {
	if !n.running && !n.closed {
		n.running = true
		n.wg.Go(n.run)
	}
}

func (n *notifier) run() {
	for {
		n.mu.Lock()
		tell := n.take()
		n.running = tell != nil
		n.mu.Unlock()
		if tell == nil {
			if n.ended != nil {
				n.ended()
			}
			return
		}
		tell()
	}
}

// busy reports whether something is being told.
func (n *notifier) busy() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.running
}

// setClosed decides whether what is added from now on is told.
func (n *notifier) setClosed(closed bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = closed
}

// close tells what is left, and returns when nobody will be told anything any
// more.
func (n *notifier) close() {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	n.wg.Wait()
}
